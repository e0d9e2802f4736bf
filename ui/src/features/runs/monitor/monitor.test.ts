import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { FakePlatform } from '../test/platform'

const host = vi.hoisted(() => ({ platform: null as FakePlatform | null }))
vi.mock('../../../platform', () => ({
  get platform() {
    return host.platform
  },
}))

import { AppError } from '../../../platform/error'
import { models, runs } from '../../../state'
import { hostOf, line, run, step } from '../test/platform'
import { Monitor } from './monitor.svelte'

let frames: FrameRequestCallback[] = []
let stops: (() => void)[] = []

beforeEach(() => {
  frames = []
  vi.stubGlobal('requestAnimationFrame', (callback: FrameRequestCallback) => frames.push(callback))
  vi.stubGlobal('cancelAnimationFrame', () => {})
  Object.assign(runs, { list: [], loading: true, error: null })
  Object.assign(models, { list: [], loading: true, error: null })
})
afterEach(() => {
  stops.forEach((stop) => stop())
  stops = []
  vi.unstubAllGlobals()
})

function frame(): void {
  const due = frames
  frames = []
  due.forEach((callback) => callback(0))
}

async function open(fields: Record<string, unknown> = {}) {
  const made = hostOf(run(fields))
  host.platform = made.platform
  const monitor = new Monitor('train_1')
  stops.push(monitor.start())
  await vi.waitFor(() => expect(monitor.loading).toBe(false))
  return { ...made, monitor, events: made.platform.events! }
}

const started = (resumed_from: number | null = null) =>
  line({ event: 'started', job_id: 'train_1', pid: 1, version: '1', resumed_from })
const prepared = line({ event: 'prepared', train_rows: 240, eval_rows: 60, truncated_rows: 0, skipped_rows: 0, tokens_per_epoch: 1000, trained_tokens_per_epoch: 500, max_seq_length: 85, total_steps: 100 })

describe('before the first step', () => {
  it('says what is happening', async () => {
    const { monitor, events } = await open()
    expect(monitor.stage).toBe('starting')
    events.feed(line({ event: 'download', file: 'model.safetensors', bytes: 10, total_bytes: 100 }))
    frame()
    expect([monitor.stage, monitor.log.download?.bytes]).toEqual(['downloading', 10])
    events.feed(started())
    events.feed(line({ event: 'loaded', architecture: 'L', parameters: 1, trainable_parameters: 1, dtype: 'f32', device: 'cpu' }))
    events.feed(line({ event: 'phase', phase: 'preparing_data' }))
    frame()
    expect([monitor.stage, monitor.preparing]).toEqual(['preparing_data', true])
    events.feed(prepared)
    events.feed(line({ event: 'phase', phase: 'training' }))
    events.feed(step(1))
    frame()
    expect([monitor.stage, monitor.preparing, monitor.total]).toEqual(['training', false, 100])
  })

  it('says when there is no such run', async () => {
    host.platform = hostOf(run()).platform
    host.platform.answers.runs_get = () => {
      throw new AppError(404, 'There is no such run.')
    }
    const monitor = new Monitor('train_9')
    stops.push(monitor.start())
    await vi.waitFor(() => expect(monitor.missing).toBe(true))
  })
})

describe('while it trains', () => {
  it('derives what the strip shows from the events', async () => {
    const { monitor, events } = await open()
    events.feed(started())
    events.feed(prepared)
    for (let n = 1; n <= 40; n += 1) events.feed(step(n))
    events.feed(line({ event: 'eval', step: 20, metrics: { eval_loss: 0.8 } }))
    events.feed(line({ event: 'eval', step: 40, metrics: { eval_loss: 0.9 } }))
    events.feed(line({ event: 'checkpoint', step: 40, path: '/c' }))
    frame()
    expect(monitor.step).toBe(40)
    expect(monitor.left, '60 steps of half a second').toBe(30)
    expect(monitor.tokensPerSecond).toBe(1000)
    expect(monitor.best?.step, 'the lowest test loss, not the last').toBe(20)
    expect(monitor.safe).toBe(40)
    expect(monitor.epochs.current).toBe(1)
  })

  it('shows the whole curve again after a reload', async () => {
    const first = await open()
    const log = [started(), prepared, ...Array.from({ length: 30 }, (_, i) => step(i + 1))]
    log.forEach((event) => first.events.feed(event))
    frame()
    const losses = Array.from({ length: 30 }, (_, i) => 2 / (i + 1))
    const column = { low: losses, high: losses, mean: losses, last: losses }
    first.platform.answers.runs_curve = () => ({
      after: log.at(-1)!.seq,
      steps: { stride: 1, step: losses.map((_, i) => i + 1), epoch: losses.map(() => 0), elapsed_ms: losses.map((_, i) => (i + 1) * 500), held: losses.map(() => 1), columns: { loss: column } },
      last: log.at(-1),
      events: log.slice(0, 2),
    })
    const again = new Monitor('train_1')
    stops.push(again.start())
    await vi.waitFor(() => expect(first.platform.streams.filter((one) => one.op === 'runs_events')).toHaveLength(2))
    expect(first.platform.events!.after, 'a new page is told all at one go and follows from there').toBe(log.at(-1)!.seq)
    first.platform.events!.feed(step(31))
    frame()
    expect(Array.from(again.log.steps.step)).toEqual([...Array.from(first.monitor.log.steps.step), 31])
    expect(Array.from(again.log.steps.column('loss').mean).slice(0, 30)).toEqual(losses)
    expect([again.total, again.step]).toEqual([100, 31])
  })

  it('counts steps done again after a resumption once', async () => {
    const { monitor, events } = await open()
    events.feed(started())
    for (let n = 1; n <= 10; n += 1) events.feed(step(n))
    events.feed(line({ event: 'eval', step: 10, metrics: { eval_loss: 9 } }))
    events.feed(started(5))
    for (let n = 6; n <= 8; n += 1) events.feed(step(n, 100, { loss: 7 }))
    frame()
    expect(Array.from(monitor.log.steps.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    expect(monitor.log.steps.column('loss').last[5], 'the newer measurement counts').toBe(7)
    expect(monitor.log.evals, 'what was measured behind the checkpoint comes again').toEqual([])
  })
})

describe('orders', () => {
  it('show until the engine has obeyed', async () => {
    const { monitor, set, platform } = await open()
    await monitor.pause()
    expect([monitor.order, monitor.stage]).toEqual(['pause', 'pausing'])
    set({ status: 'stopped' })
    await runs.refresh()
    monitor.settle()
    expect([monitor.order, monitor.stage]).toEqual([null, 'stopped'])
    expect(platform.asked.filter(({ op }) => op === 'runs_pause')).toHaveLength(1)
  })

  it('tell why they failed and are not shown as given', async () => {
    const { monitor, platform } = await open()
    platform.answers.runs_pause = () => {
      throw new AppError(400, 'train_1 is not running.')
    }
    await monitor.pause()
    expect(monitor.problem).toEqual({ what: 'pause', message: 'train_1 is not running.' })
    expect(monitor.order).toBeNull()
  })

  it('to keep and to discard are told apart', async () => {
    const { monitor, platform } = await open()
    await monitor.stopAndKeep()
    expect(monitor.stage).toBe('finishing')
    await monitor.discard()
    expect(monitor.stage).toBe('discarding')
    expect(platform.asked.filter(({ op }) => op === 'runs_stop').map(({ input }) => input)).toEqual([
      { job_id: 'train_1', keep: true },
      { job_id: 'train_1', keep: false },
    ])
  })

  it('go on from a checkpoint with the stream that follows', async () => {
    const { monitor, events, platform } = await open({ status: 'stopped' })
    events.feed(started())
    events.feed(line({ event: 'phase', phase: 'training' }))
    events.feed(step(50))
    events.feed(line({ event: 'stopped', step: 50, checkpoint: '/c' }))
    frame()
    events.end()
    await vi.waitFor(() => expect(platform.streams).toHaveLength(1))
    await monitor.resume()
    expect([monitor.running, monitor.stage], 'the phase of the engine before tells nothing of the new one').toEqual([true, 'starting'])
    await vi.waitFor(() => expect(platform.streams.filter((one) => one.op === 'runs_events')).toHaveLength(2))
    expect(platform.events!.after, 'only what is new is asked for').toBe(events.after ?? monitor.log.lines.at(-1)!.seq)
    platform.events!.feed(started(50))
    platform.events!.feed(line({ event: 'phase', phase: 'training' }))
    frame()
    expect(monitor.stage).toBe('training')
  })

  it('are refused with a reason while another run computes', async () => {
    const { monitor } = await open({ status: 'stopped' })
    runs.list = [run({ status: 'stopped' }), run({ job_id: 'train_2', name: 'Other' })]
    expect(monitor.blockedBy?.name).toBe('Other')
  })

  it('to delete take the run away', async () => {
    const { monitor } = await open({ status: 'completed' })
    expect(await monitor.delete()).toBe(true)
    expect(monitor.gone).toBe(true)
  })
})

describe('200 events a second', () => {
  it('change what is shown once a frame, in bounded memory', async () => {
    const { monitor, events } = await open()
    events.feed(started())
    frame()
    const before = monitor.log.version
    const TOTAL = 720_000
    // An hour: what comes within a frame is shown by that frame.
    for (let n = 1; n <= TOTAL; n += 1) {
      events.feed(step(n, TOTAL))
      if (n % 1000 === 0) {
        expect(frames.length, 'many events ask for one frame').toBe(1)
        frame()
      }
    }
    expect(monitor.log.version - before, 'one change a frame, however many events').toBe(TOTAL / 1000)
    expect(monitor.log.steps.length, 'points stay bounded').toBeLessThanOrEqual(4096)
    expect(monitor.log.steps.step.at(-1)).toBe(TOTAL)
    expect(monitor.log.lines.length, 'steps are no log lines').toBeLessThan(10)
  }, 30_000)
})
