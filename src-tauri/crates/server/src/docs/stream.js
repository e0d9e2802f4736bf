// Server-sent events out of a fetch, which, unlike EventSource, can POST and carry a token.

/** Gives each event of a response's body as {id, event, data}; comments are left out. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const event = read(block);
      if (event.data !== undefined) yield event;
    }
  }
}

function read(block) {
  const event = { event: 'message' };
  for (const line of block.split('\n')) {
    const at = line.indexOf(':');
    if (at <= 0) continue;
    const name = line.slice(0, at);
    const text = line.slice(at + 1).replace(/^ /, '');
    event[name] = name === 'data' && event.data !== undefined ? `${event.data}\n${text}` : text;
  }
  return event;
}
