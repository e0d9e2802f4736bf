// The host that is a browser in front of `modelforge serve`: operations by their routes, streams as server-sent events.
import { ROUTES, type Detail, type Route } from '../api/generated'
import { access } from './access.svelte'
import { AppError, UNREACHABLE, isAbort } from './error'
import { EventParser } from './sse'
import type { FileDrop, OnProgress, PickedDataset, Platform } from './types'

type Fields = Record<string, unknown>

/** A browser in front of the server at `origin`; by default the one that served this page. */
export function httpPlatform(origin = ''): Platform {
  const upload = (file: File, onProgress?: OnProgress, signal?: AbortSignal): Promise<PickedDataset> =>
    sendFile(`${origin}/api/datasets/upload?name=${encodeURIComponent(file.name)}`, file, onProgress, signal)

  return {
    kind: 'http',

    async call(op, input, options) {
      const response = await ask(origin, op, input as Fields, options?.signal)
      const text = await response.text().catch(rethrow)
      return parse(text)
    },

    async stream(op, input, onItem, { signal, after } = {}) {
      const fields = after === undefined ? input : { ...input, after }
      try {
        const response = await ask(origin, op, fields as Fields, signal, 'text/event-stream')
        await events(response, (data, id) => onItem(data as never, id), signal)
      } catch (thrown) {
        if (isAbort(thrown) && signal?.aborted) return
        throw thrown
      }
    },

    async pickDataset(onProgress) {
      const file = await chooseFile('.jsonl,.json,.csv,.parquet')
      return file && upload(file, onProgress)
    },

    uploadDataset: upload,

    onFileDrop: (handler) => fileDrops(handler, upload),

    canOpenFolder: false,
    openFolder: () => Promise.reject(new AppError(400, 'A browser cannot open folders.')),
    pickFolder: () => Promise.resolve(null),

    openUrl(url) {
      window.open(url, '_blank', 'noopener,noreferrer')
      return Promise.resolve()
    },

    async notify(title, body) {
      if (!('Notification' in window) || !document.hidden) return
      if (Notification.permission === 'granted') new Notification(title, { body })
    },
  }
}

/** Sends a request and gives its answer, an error as an `AppError`. Asks for the server's token where it wants one. */
async function ask(
  origin: string,
  op: string,
  input: Fields,
  signal?: AbortSignal,
  accept = 'application/json',
): Promise<Response> {
  const route = (ROUTES as Record<string, Route | undefined>)[op]
  if (!route) throw new AppError(404, `This version has no operation ${op}.`)
  const { url, body } = address(route, input)
  for (;;) {
    const token = access.token
    const headers: Record<string, string> = { accept }
    if (body !== undefined) headers['content-type'] = 'application/json'
    if (token !== null) headers.authorization = `Bearer ${token}`
    const response = await fetch(origin + url, { method: route.method, headers, body, signal }).catch(rethrow)
    if (response.ok) return response
    if (response.status !== 401) throw await failure(response)
    await access.ask(token)
  }
}

/** A request's address and body: fields of the path and the query by name, the rest as JSON. */
export function address(route: Route, input: Fields): { url: string; body: string | undefined } {
  const query = new URLSearchParams()
  const rest: Fields = {}
  let path = route.path
  for (const [name, value] of Object.entries(input)) {
    if (value === undefined) continue
    if (route.inPath.includes(name)) path = path.replace(`{${name}}`, encodeURIComponent(String(value)))
    else if (!route.inQuery.includes(name)) rest[name] = value
    else if (value !== null) query.set(name, String(value))
  }
  const hasBody = route.method === 'POST' || route.method === 'PUT'
  const url = query.size > 0 ? `${path}?${query}` : path
  return { url, body: hasBody ? JSON.stringify(rest) : undefined }
}

async function events(
  response: Response,
  onItem: (data: unknown, id: number | null) => void,
  signal?: AbortSignal,
): Promise<void> {
  if (!response.body) return
  const reader = response.body.getReader()
  const parser = new EventParser()
  const decoder = new TextDecoder()
  for (;;) {
    const { done, value } = await reader.read().catch(rethrow)
    if (done) return
    for (const { id, event, data } of parser.push(decoder.decode(value, { stream: true }))) {
      if (signal?.aborted) return
      if (event === 'error') throw AppError.from(parse(data))
      if (event === 'message') onItem(parse(data), id === null ? null : Number(id))
    }
  }
}

async function failure(response: Response): Promise<AppError> {
  const text = await response.text().catch(() => '')
  try {
    return new AppError(response.status, (JSON.parse(text) as { detail: Detail }).detail)
  } catch {
    // Not the server but something between it and this page answers so.
    return new AppError(response.status >= 502 ? UNREACHABLE : response.status, response.statusText)
  }
}

function parse<T>(text: string): T {
  try {
    return JSON.parse(text) as T
  } catch {
    throw new AppError(UNREACHABLE, text)
  }
}

/** A fetch that failed: what its caller ended stays that, all else means that nobody answers. */
function rethrow(thrown: unknown): never {
  throw isAbort(thrown) ? thrown : new AppError(UNREACHABLE, String(thrown))
}

/** `fetch` does not tell how much of a body was sent. */
async function sendFile(
  url: string,
  file: File,
  onProgress?: OnProgress,
  signal?: AbortSignal,
): Promise<PickedDataset> {
  for (;;) {
    const token = access.token
    const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const request = new XMLHttpRequest()
      request.open('POST', url)
      request.setRequestHeader('content-type', 'application/octet-stream')
      if (token !== null) request.setRequestHeader('authorization', `Bearer ${token}`)
      request.upload.onprogress = (event) => onProgress?.(event.loaded, file.size)
      request.onload = () => resolve({ status: request.status, text: request.responseText })
      request.onerror = () => reject(new AppError(UNREACHABLE, ''))
      request.onabort = () => reject(new DOMException('The upload was ended.', 'AbortError'))
      signal?.addEventListener('abort', () => request.abort(), { once: true })
      request.send(file)
    })
    if (status === 401) {
      await access.ask(token)
    } else if (status >= 200 && status < 300) {
      return parse<PickedDataset>(text)
    } else {
      throw await failure(new Response(text, { status }))
    }
  }
}

function chooseFile(accept: string): Promise<File | null> {
  return new Promise((resolve) => {
    const input = document.createElement('input')
    input.type = 'file'
    input.accept = accept
    input.onchange = () => resolve(input.files?.[0] ?? null)
    input.oncancel = () => resolve(null)
    input.click()
  })
}

function fileDrops(
  handler: (drop: FileDrop) => void,
  upload: (file: File, onProgress?: OnProgress) => Promise<PickedDataset>,
): () => void {
  const ends = new AbortController()
  const { signal } = ends
  // Entering a child and leaving its parent come as a pair, so the window is left when all that was entered was left.
  let depth = 0
  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false
  const on = (type: 'dragenter' | 'dragover' | 'dragleave' | 'drop', listener: (event: DragEvent) => void): void =>
    window.addEventListener(
      type,
      (event) => {
        if (!hasFiles(event)) return
        event.preventDefault()
        listener(event)
      },
      { signal },
    )
  on('dragenter', () => {
    if (depth++ === 0) handler({ type: 'over' })
  })
  on('dragover', () => {})
  on('dragleave', () => {
    if (--depth === 0) handler({ type: 'leave' })
  })
  on('drop', (event) => {
    depth = 0
    const file = event.dataTransfer?.files[0]
    if (!file) handler({ type: 'leave' })
    else handler({ type: 'drop', name: file.name, dataset: (onProgress) => upload(file, onProgress) })
  })
  return () => ends.abort()
}
