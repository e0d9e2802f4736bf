// Lists the operations of openapi.json by group, with their fields, and sends requests that one fills in.

import { example, expanded, resolve, typeOf } from '/api/docs/schema.js';
import { events } from '/api/docs/stream.js';

/** The most characters of an answer that are shown: a browser is slow with more. */
const MOST_SHOWN = 200_000;

const at = (id) => document.getElementById(id);
let openapi = {};

/** An element with attributes and children. Text stays text: nothing that the server says becomes markup. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function headers(more = {}) {
  const token = at('token').value.trim();
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function load() {
  const problem = at('problem');
  problem.hidden = true;
  try {
    const response = await fetch('/api/openapi.json', { headers: headers() });
    if (!response.ok) throw new Error((await response.json()).detail);
    openapi = await response.json();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    at('token').focus();
    return;
  }
  at('about').textContent = `${openapi.info?.description ?? ''} Version ${openapi.info?.version ?? '?'}`.trim();
  const groups = new Map();
  for (const [path, methods] of Object.entries(openapi.paths ?? {})) {
    for (const [method, operation] of Object.entries(methods)) {
      if (!operation.responses) continue;
      const group = operation.tags?.[0] ?? path.split('/')[2] ?? '';
      groups.set(group, [...(groups.get(group) ?? []), section(method, path, operation)]);
    }
  }
  at('groups').replaceChildren(...[...groups].map(([name, sections]) => el('section', {}, el('h2', {}, name), ...sections)));
  filter();
}

function filter() {
  const words = at('find').value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const group of at('groups').children) {
    for (const details of group.querySelectorAll('details[data-words]')) {
      details.hidden = !words.every((word) => details.dataset.words.includes(word));
    }
    group.hidden = !group.querySelector('details[data-words]:not([hidden])');
  }
}

function section(method, path, operation) {
  const name = operation.operationId ?? '';
  const help = operation.summary ?? operation.description ?? '';
  const details = el('details', { id: name || null, 'data-words': `${method} ${path} ${name} ${help}`.toLowerCase() },
    el('summary', {},
      el('span', { class: `method ${method}` }, method.toUpperCase()),
      el('code', {}, path),
      el('span', { class: 'help' }, help)));
  // What is inside is made when it is first looked at.
  details.addEventListener('toggle', () => details.open && details.append(inside(method, path, operation)), { once: true });
  return details;
}

function inside(method, path, operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => resolve(openapi, parameter));
  const bodySchema = operation.requestBody?.content?.['application/json']?.schema;
  return el('div', { class: 'inside' },
    operation.operationId ? el('p', {}, el('code', {}, operation.operationId)) : null,
    operation.description && operation.summary ? el('p', {}, operation.description) : null,
    ...fieldTable(parameters, bodySchema),
    ...answers(operation),
    ...form(method, path, operation, parameters, bodySchema));
}

function fieldTable(parameters, bodySchema) {
  const rows = parameters.map((p) => ({ name: p.name, place: p.in, required: p.required, schema: p.schema ?? {}, help: p.description }));
  const body = resolve(openapi, bodySchema);
  for (const [name, schema] of Object.entries(body.properties ?? {})) {
    rows.push({ name, place: 'body', required: body.required?.includes(name), schema });
  }
  if (!rows.length) return [el('p', { class: 'status' }, 'No fields.')];
  const head = ['Field', 'In', 'Type', 'When left out', ''].map((text) => el('th', { scope: 'col' }, text));
  const line = ({ name, place, required, schema, help }) => {
    const full = resolve(openapi, schema);
    const fallback = required ? 'required' : full.default === undefined ? '' : JSON.stringify(full.default);
    return el('tr', {}, el('td', {}, el('code', {}, name)), el('td', {}, place), el('td', {}, typeOf(openapi, schema)),
      el('td', {}, fallback), el('td', {}, help ?? full.description ?? ''));
  };
  return [el('h3', {}, 'Fields'),
    el('div', { class: 'wide' }, el('table', {}, el('thead', {}, el('tr', {}, ...head)), el('tbody', {}, ...rows.map(line))))];
}

function answers(operation) {
  const lines = Object.entries(operation.responses).map(([status, response]) => {
    const { description, content } = resolve(openapi, response);
    const [type, media] = Object.entries(content ?? {})[0] ?? [];
    const said = media?.['x-item-schema'] ?? media?.schema;
    const schema = said && expanded(openapi, said);
    const shape = schema ? el('pre', {}, JSON.stringify(schema, null, 2)) : null;
    return el('details', {}, el('summary', {}, el('code', {}, status), el('span', { class: 'help' }, description ?? '', type ? ` (${type})` : '')), shape);
  });
  return [el('h3', {}, 'Answers'), ...lines];
}

function form(method, path, operation, parameters, bodySchema) {
  const inputs = parameters.filter((p) => p.in !== 'header').map((parameter) => ({ parameter, input: input(parameter) }));
  const takesFile = operation.requestBody?.content?.['application/octet-stream'];
  const body = takesFile ? el('input', { type: 'file', required: true }) : bodySchema && el('textarea', { spellcheck: 'false' });
  if (bodySchema) body.value = JSON.stringify(example(openapi, bodySchema), null, 2);
  const send = el('button', { type: 'submit' }, 'Send');
  const stop = el('button', { type: 'button', disabled: true }, 'Stop');
  const status = el('span', { class: 'status', role: 'status' });
  const output = el('pre', { hidden: true, tabindex: '0' });
  const curl = el('pre', { tabindex: '0' });
  const request = () => asked(method, path, inputs, body);
  const tellCurl = () => { curl.textContent = command(request()); };
  const submit = async (event) => {
    event.preventDefault();
    const abort = new AbortController();
    stop.onclick = () => abort.abort();
    send.disabled = true;
    stop.disabled = false;
    output.hidden = false;
    output.textContent = '';
    await run(request(), abort.signal, status, output);
    send.disabled = false;
    stop.disabled = true;
  };
  tellCurl();
  return [el('h3', {}, 'Try it'),
    el('form', { onsubmit: submit, oninput: tellCurl },
      el('div', { class: 'inputs' }, ...inputs.map(({ parameter, input }) => el('label', {}, parameter.name, input))),
      body ? el('label', {}, 'Body', body) : null,
      el('div', { class: 'actions' }, send, stop, status)),
    output, el('h3', {}, 'With curl'), curl];
}

function input(parameter) {
  const schema = resolve(openapi, parameter.schema);
  const choices = schema.enum ?? (schema.type === 'boolean' ? [true, false] : null);
  if (!choices) return el('input', { required: parameter.required, autocomplete: 'off' });
  const empty = parameter.required ? [] : [el('option', { value: '' }, '')];
  return el('select', {}, ...empty, ...choices.map((choice) => el('option', {}, String(choice))));
}

function asked(method, path, inputs, body) {
  const query = new URLSearchParams();
  for (const { parameter, input } of inputs) {
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value !== '') query.set(parameter.name, input.value);
  }
  return { method: method.toUpperCase(), path: query.size ? `${path}?${query}` : path, body: body?.files ? body.files[0] : body?.value };
}

function command({ method, path, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ['curl', '-N', method === 'GET' ? '' : `-X ${method}`, quoted(location.origin + path)];
  if (at('token').value) parts.push(`-H "Authorization: Bearer $MODELFORGE_TOKEN"`);
  if (body instanceof File) parts.push(`--data-binary ${quoted(`@${body.name}`)}`);
  else if (body) parts.push(`-H 'Content-Type: application/json'`, `-d ${quoted(body)}`);
  return parts.filter(Boolean).join(' ');
}

async function run({ method, path, body }, signal, status, output) {
  const show = (text) => {
    output.textContent = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}\n… ${text.length} characters in all` : text;
  };
  const start = performance.now();
  const took = () => `${Math.round(performance.now() - start)} ms`;
  status.className = 'status';
  status.textContent = 'Waiting…';
  try {
    const more = typeof body === 'string' && body ? { 'Content-Type': 'application/json' } : {};
    const response = await fetch(path, { method, body: body || undefined, headers: headers(more), signal });
    const said = () => `${response.status} ${response.statusText}, ${took()}`;
    status.classList.toggle('bad', !response.ok);
    if (response.headers.get('content-type')?.startsWith('text/event-stream')) {
      let count = 0;
      for await (const event of events(response)) {
        if (output.textContent.length > MOST_SHOWN) output.textContent = '';
        output.append(`${event.event === 'error' ? 'error ' : ''}${event.id === undefined ? '' : `${event.id} `}${event.data}\n`);
        output.scrollTop = output.scrollHeight;
        status.textContent = `${said()}, ${++count} events`;
      }
      status.textContent = `${said()}, ${count} events, ended`;
      return;
    }
    const text = await response.text();
    status.textContent = said();
    try {
      show(JSON.stringify(JSON.parse(text), null, 2));
    } catch {
      show(text);
    }
  } catch (error) {
    status.classList.add('bad');
    status.textContent = signal.aborted ? `Stopped after ${took()}` : error.message;
  }
}

at('find').addEventListener('input', filter);
at('top').addEventListener('submit', (event) => {
  event.preventDefault();
  load();
});
load();
