import { clearMocks, mockIPC } from '@tauri-apps/api/mocks'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { tauriPlatform } from './tauri'

interface Internals {
  runCallback: (id: number, message: unknown) => void
}

/** Sends an item to a channel as Tauri does, each with its place. */
function send(channel: { id: number }, index: number, item: unknown): void {
  ;(window as unknown as { __TAURI_INTERNALS__: Internals }).__TAURI_INTERNALS__.runCallback(channel.id, { index, message: item })
}

type Args = { channel: { id: number }; after?: number }

afterEach(clearMocks)

describe('operations as commands', () => {
  it('gives the answer, and a failure with its status', async () => {
    mockIPC((command) => {
      if (command === 'app_health') return { status: 'ok' }
      throw command === 'models_get' ? { status_code: 404, detail: 'There is no model x.' } : `Command ${command} not found`
    })
    expect(await tauriPlatform.call('app_health', {})).toEqual({ status: 'ok' })
    await expect(tauriPlatform.call('models_get', { model_id: 'x' })).rejects.toMatchObject({ status: 404, message: 'There is no model x.' })
    await expect(tauriPlatform.call('runs_list', {}), 'a command that this version lacks is not there').rejects.toMatchObject({ status: 404 })
  })

  it('rejects with an AbortError when the caller gives up', async () => {
    mockIPC(() => new Promise(() => {}))
    const ends = new AbortController()
    const answer = tauriPlatform.call('app_health', {}, { signal: ends.signal })
    ends.abort()
    await expect(answer).rejects.toMatchObject({ name: 'AbortError' })
  })
})

describe('streams over a channel', () => {
  it('waits for the items that come after the answer of the command', async () => {
    let late = (): void => {}
    mockIPC((_, args) => {
      const { channel, after } = args as unknown as Args
      expect(after, 'a stream goes on behind an id').toBe(4)
      send(channel, 0, { id: 5, data: { event: 'phase', phase: 'training' } })
      late = () => send(channel, 1, { id: 6, data: { event: 'phase', phase: 'saving' } })
      return 2
    })
    const ids: (number | null)[] = []
    const over = vi.fn()
    const streaming = tauriPlatform.stream('runs_events', { job_id: 'a' }, (_, id) => ids.push(id), { after: 4 }).then(over)
    await expect.poll(() => ids).toEqual([5])
    expect(over, 'one item of two is missing').not.toHaveBeenCalled()
    late()
    await streaming
    expect(ids).toEqual([5, 6])
  })

  it('is rejected with the failure of the command', async () => {
    mockIPC(() => {
      throw { status_code: 500, detail: 'The model does not load.' }
    })
    const streaming = tauriPlatform.stream('playground_stream', { model_id: 'm', messages: [] }, () => {})
    await expect(streaming).rejects.toMatchObject({ status: 500, message: 'The model does not load.' })
  })

  it('ends when the caller leaves, gives no item after that, and has the backend stop', async () => {
    const commands: string[] = []
    let channel = { id: 0 }
    mockIPC((command, args) => {
      commands.push(command)
      if (command !== 'playground_stream') return null
      channel = (args as unknown as Args).channel
      return new Promise(() => {})
    })
    const ends = new AbortController()
    const items: unknown[] = []
    const streaming = tauriPlatform.stream('playground_stream', { model_id: 'm', messages: [] }, (item) => items.push(item), {
      signal: ends.signal,
    })
    send(channel, 0, { id: null, data: { type: 'text', text: 'a' } })
    ends.abort()
    await streaming
    send(channel, 1, { id: null, data: { type: 'text', text: 'b' } })
    expect(items).toHaveLength(1)
    expect(commands).toContain('close_stream')
  })
})
