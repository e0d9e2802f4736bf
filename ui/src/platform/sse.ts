// Server-sent events from the chunks of a body, as the HTML standard reads them. `EventSource` cannot carry a token or a body.

export interface ServerEvent {
  id: string | null
  event: string
  data: string
}

/** Takes text in any pieces, gives the events that are whole. */
export class EventParser {
  #rest = ''
  #id: string | null = null
  #event = ''
  #data: string[] = []

  push(chunk: string): ServerEvent[] {
    const whole: ServerEvent[] = []
    this.#rest += chunk
    let start = 0
    for (;;) {
      const end = lineEnd(this.#rest, start)
      if (end === null) break
      const line = this.#rest.slice(start, end.at)
      start = end.next
      if (line !== '') {
        this.#field(line)
      } else if (this.#data.length > 0) {
        whole.push({ id: this.#id, event: this.#event || 'message', data: this.#data.join('\n') })
        this.#reset()
      } else {
        this.#reset()
      }
    }
    this.#rest = this.#rest.slice(start)
    return whole
  }

  #field(line: string): void {
    const colon = line.indexOf(':')
    if (colon === 0) return
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === 'data') this.#data.push(value)
    else if (name === 'event') this.#event = value
    else if (name === 'id') this.#id = value
  }

  #reset(): void {
    this.#id = null
    this.#event = ''
    this.#data = []
  }
}

/** The end of the line that begins at `start`; null while it may still go on. */
function lineEnd(text: string, start: number): { at: number; next: number } | null {
  for (let at = start; at < text.length; at++) {
    const char = text[at]
    if (char === '\n') return { at, next: at + 1 }
    if (char === '\r') {
      if (at + 1 === text.length) return null
      return { at, next: text[at + 1] === '\n' ? at + 2 : at + 1 }
    }
  }
  return null
}
