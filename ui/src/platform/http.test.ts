// @vitest-environment jsdom
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { access } from './access.svelte'
import { AppError, UNREACHABLE } from './error'
import { address, httpPlatform } from './http'
import type { Platform } from './types'

interface Asked {
  method: string
  url: string
  body: string
  token: string | undefined
}

let server: Server | undefined

/** A server that answers as told, and the platform in front of it. */
async function serve(
  answer: (asked: Asked, response: ServerResponse, request: IncomingMessage) => void,
): Promise<{ platform: Platform; asked: Asked[] }> {
  const asked: Asked[] = []
  server = createServer((request, response) => {
    response.setHeader('access-control-allow-origin', '*')
    response.setHeader('access-control-allow-headers', '*')
    response.setHeader('access-control-allow-methods', '*')
    if (request.method === 'OPTIONS') return response.end()
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      const one = { method: request.method ?? '', url: request.url ?? '', body, token: request.headers.authorization }
      asked.push(one)
      answer(one, response, request)
    })
  })
  await new Promise<void>((done) => server!.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  return { platform: httpPlatform(`http://127.0.0.1:${port}`), asked }
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(value))
}

afterEach(() => {
  server?.closeAllConnections()
  server?.close()
  server = undefined
})

describe('where the fields of an operation go', () => {
  const route = { method: 'GET', path: '/api/runs/{job_id}/history', inPath: ['job_id'], inQuery: ['after', 'limit'] } as const

  it('puts fields into the path and the query, and leaves out what is not given', () => {
    const { url, body } = address(route, { job_id: 'train/1 ä', after: 5, limit: undefined })
    expect(url, 'the path takes any text as one part').toBe('/api/runs/train%2F1%20%C3%A4/history?after=5')
    expect(body, 'a GET has no body').toBeUndefined()
    expect(address(route, { job_id: 'a', after: null }).url, 'null is no value of a query').toBe('/api/runs/a/history')
  })

  it('puts the rest into the body, null included', () => {
    const stop = { method: 'POST', path: '/api/runs/{job_id}/stop', inPath: ['job_id'], inQuery: [] } as const
    expect(address(stop, { job_id: 'a', keep: false, name: null }).body).toBe('{"keep":false,"name":null}')
    expect(address(stop, { job_id: 'a' }).body, 'an operation without fields still sends an object').toBe('{}')
  })
})

describe('calls', () => {
  it('gives the answer of an operation', async () => {
    const { platform, asked } = await serve((_, response) => json(response, 200, { status: 'ok' }))
    expect(await platform.call('app_health', {})).toEqual({ status: 'ok' })
    expect(asked[0]).toMatchObject({ method: 'GET', url: '/api/health' })
  })

  it('tells a failure with its status, its sentence and the bad fields', async () => {
    const detail = [{ loc: ['body', 'lora_r'], msg: 'must be at most 256', type: 'value_error' }]
    const { platform } = await serve((asked, response) =>
      asked.url.includes('models') ? json(response, 404, { detail: 'There is no model x.' }) : json(response, 400, { detail }),
    )
    const missing = await platform.call('models_get', { model_id: 'x' }).catch((error: unknown) => error as AppError)
    expect(missing).toBeInstanceOf(AppError)
    expect(missing).toMatchObject({ status: 404, message: 'There is no model x.' })
    const bad = (await platform.call('settings_set', {}).catch((error: unknown) => error)) as AppError
    expect(bad.field('lora_r'), 'a field finds what is wrong with it').toBe('must be at most 256')
    expect(bad.message, 'a failure of fields is a sentence too').toBe('lora_r: must be at most 256.')
  })

  it('says that nobody answers where nobody does', async () => {
    const { platform } = await serve((_, response) => response.destroy())
    await expect(platform.call('app_health', {})).rejects.toMatchObject({ status: UNREACHABLE })
  })

  it('rejects with an AbortError when the caller gives up', async () => {
    const ends = new AbortController()
    const { platform } = await serve(() => ends.abort())
    await expect(platform.call('app_health', {}, { signal: ends.signal })).rejects.toMatchObject({ name: 'AbortError' })
  })

  it('asks for the token once and repeats what was refused without it', async () => {
    const { platform, asked } = await serve((one, response) =>
      one.token === 'Bearer sixteen-letters-' ? json(response, 200, []) : json(response, 401, { detail: 'token' }),
    )
    const both = Promise.all([platform.call('runs_list', {}), platform.call('models_list', {})])
    await expect.poll(() => access.asked).toBe(true)
    await expect.poll(() => asked.length).toBe(2)
    access.give('sixteen-letters-')
    expect(await both).toEqual([[], []])
    expect(access.asked, 'a token that is right is not asked for again').toBe(false)
    expect(sessionStorage.getItem('modelforge.token'), 'it is kept for this tab only').toBe('sixteen-letters-')
    access.give('')
    sessionStorage.clear()
  })
})

describe('streams', () => {
  it('gives items with their ids, however the text is cut, and goes on behind an id', async () => {
    const { platform, asked } = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(': nothing happens\n\nid: 7\nda')
      response.write('ta: {"event":"phase","phase":"training"}\n')
      response.end('\ndata: {"event":"warning",\ndata: "message":"ä"}\n\n')
    })
    const items: unknown[] = []
    await platform.stream('runs_events', { job_id: 'a' }, (item, id) => items.push([id, item]), { after: 6 })
    expect(items).toEqual([
      [7, { event: 'phase', phase: 'training' }],
      [null, { event: 'warning', message: 'ä' }],
    ])
    expect(asked[0]?.url).toBe('/api/runs/a/events?after=6')
  })

  it('is rejected with the failure that the stream ends with', async () => {
    const { platform } = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.end('event: error\ndata: {"status_code":500,"detail":"The model does not load."}\n\n')
    })
    const streaming = platform.stream('playground_stream', { model_id: 'm', messages: [] }, () => {})
    await expect(streaming).rejects.toMatchObject({ status: 500, message: 'The model does not load.' })
  })

  it('ends without a failure when the caller leaves, and the server notices', async () => {
    let left = false
    const { platform } = await serve((_, response) => {
      response.on('close', () => (left = true))
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: {"type":"text","text":"a"}\n\n')
    })
    const ends = new AbortController()
    const items: unknown[] = []
    await platform.stream(
      'playground_stream',
      { model_id: 'm', messages: [] },
      (item) => {
        items.push(item)
        ends.abort()
      },
      { signal: ends.signal },
    )
    expect(items).toHaveLength(1)
    await expect.poll(() => left, { message: 'an answer that nobody reads is not generated further' }).toBe(true)
  })
})

describe('uploads', () => {
  it('sends the file as it is and gives what other operations take', async () => {
    const { platform, asked } = await serve((_, response) => json(response, 200, { dataset: '/data/rows.jsonl', bytes: 3 }))
    const file = new File(['abc'], 'my rows.jsonl')
    expect(await platform.uploadDataset?.(file)).toMatchObject({ dataset: '/data/rows.jsonl' })
    expect(asked[0]).toMatchObject({ method: 'POST', url: '/api/datasets/upload?name=my%20rows.jsonl', body: 'abc' })
  })
})
