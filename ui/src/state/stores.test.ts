import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { AppError } from '../api/client'
import { platform } from '../platform'
import { Collection } from './collection.svelte'
import { runs } from './runs.svelte'
import { toasts } from './toasts.svelte'

const id = (entry: { id: string }): string => entry.id

describe('a list that the backend keeps', () => {
  it('is fetched once more when it changed while it was fetched, however often', async () => {
    let answer = (_: { id: string }[]): void => {}
    const fetch = vi.fn(() => new Promise<{ id: string }[]>((resolve) => (answer = resolve)))
    const list = new Collection(fetch, id)
    const first = list.refresh()
    void list.refresh()
    void list.refresh()
    expect(fetch).toHaveBeenCalledTimes(1)
    answer([{ id: 'old' }])
    await expect.poll(() => fetch.mock.calls.length).toBe(2)
    answer([{ id: 'new' }])
    await first
    expect(fetch, 'three wishes are two fetches').toHaveBeenCalledTimes(2)
    expect(list.get('new')).toEqual({ id: 'new' })
    expect(list.get('old')).toBeUndefined()
  })

  it('keeps what it has when fetching fails, and tells why', async () => {
    const fetch = vi.fn().mockResolvedValueOnce([{ id: 'a' }]).mockRejectedValueOnce(new AppError(500, 'The disk is gone.'))
    const list = new Collection<{ id: string }>(fetch, id)
    await list.refresh()
    await list.refresh()
    expect(list.list).toHaveLength(1)
    expect(list.error?.message).toBe('The disk is gone.')
    expect(list.loading).toBe(false)
  })
})

describe('the active run', () => {
  const run = { job_id: 'train_1', status: 'running', step: 10, total_steps: 40 }

  it('is followed step by step, and the list is fetched anew once it is over', async () => {
    const call = vi.spyOn(platform, 'call')
    call.mockResolvedValueOnce([run] as never)
    await runs.refresh()
    expect(runs.fraction).toBe(0.25)
    call.mockResolvedValueOnce({ ...run, step: 20, spec: {} } as never)
    await runs.follow()
    expect(runs.fraction).toBe(0.5)
    call.mockResolvedValueOnce({ ...run, status: 'completed', spec: {} } as never)
    call.mockResolvedValueOnce([{ ...run, status: 'completed' }] as never)
    await runs.follow()
    expect(runs.active, 'a run that is over is not active').toBeUndefined()
    expect(runs.fraction).toBeNull()
  })
})

describe('messages', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('come one at a time, and stay while they are pointed at', () => {
    toasts.show('first')
    toasts.show('second')
    expect(toasts.current?.text).toBe('first')
    toasts.hold(true)
    vi.advanceTimersByTime(60_000)
    expect(toasts.current?.text, 'what is being read does not go').toBe('first')
    toasts.hold(false)
    vi.advanceTimersByTime(5000)
    expect(toasts.current?.text).toBe('second')
    toasts.dismiss()
    expect(toasts.current).toBeNull()
  })
})
