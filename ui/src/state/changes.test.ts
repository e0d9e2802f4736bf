import { afterEach, describe, expect, it, vi } from 'vitest'
import { AppError, call } from '../api/client'
import type { Change } from '../api/generated'
import { platform } from '../platform'
import { changes } from './changes.svelte'
import { models } from './models.svelte'

let end = (): void => {}
afterEach(() => end())

/** Starts to follow changes on a backend that streams as told, and gives what tells one. */
async function follow(stream: typeof platform.stream): Promise<{ lists: () => number }> {
  let lists = 0
  vi.spyOn(platform, 'stream').mockImplementation(stream)
  vi.spyOn(platform, 'call').mockImplementation(((op: string) => {
    if (op === 'models_list') lists++
    return Promise.resolve(op === 'models_list' ? [] : { success: true })
  }) as never)
  await models.refresh()
  lists = 0
  end = changes.start()
  return { lists: () => lists }
}

describe('changes', () => {
  it('are told by the backend: only what changed is fetched, and only what somebody wanted', async () => {
    let tell = (_: Change): void => {}
    const { lists } = await follow(((_: string, __: object, onItem: (change: Change) => void) => {
      tell = onItem
      return new Promise(() => {})
    }) as never)
    tell({ topic: 'models', id: null })
    await expect.poll(lists).toBe(1)
    tell({ topic: 'conversations', id: 'chat_1' })
    expect(platform.call, 'nobody has looked at the conversations yet').not.toHaveBeenCalledWith('conversations_list', {}, undefined)
    expect(changes.live).toBe(true)
    await call('models_delete', { model_id: 'a' })
    expect(lists(), 'what was done here is told by the backend too').toBe(1)
  })

  it('are fetched after what was done here and on coming back, where the backend does not tell them', async () => {
    const { lists } = await follow(() => Promise.reject(new AppError(404, 'No such operation.')))
    await call('models_delete', { model_id: 'a' })
    await expect.poll(lists).toBe(1)
    window.dispatchEvent(new Event('focus'))
    await expect.poll(lists).toBe(2)
  })

  it('are listened to again after the connection broke', async () => {
    vi.useFakeTimers()
    let connections = 0
    const { lists } = await follow((() => (connections++, Promise.reject(new AppError(0, '')))) as never)
    await vi.advanceTimersByTimeAsync(0)
    expect(connections).toBe(1)
    await vi.advanceTimersByTimeAsync(600)
    expect(connections, 'first soon').toBe(2)
    expect(lists(), 'what was missed is fetched').toBe(1)
    await vi.advanceTimersByTimeAsync(600)
    expect(connections, 'then less and less often').toBe(2)
    vi.useRealTimers()
  })
})
