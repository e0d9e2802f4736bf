import { describe, expect, it } from 'vitest'
import type { EventLine, StepStats } from '../api/generated'
import { RunLog } from './run-log.svelte'
import { CAPACITY, Steps } from './steps'

function step(n: number, loss = 1): StepStats {
  return {
    step: n, total_steps: 720_000, epoch: n / 240_000, loss, learning_rate: 1e-4, grad_norm: 0.5, tokens: 100,
    trained_tokens: 50, step_ms: 5, elapsed_ms: n * 5,
  }
}

describe('named metrics of steps', () => {
  it('are kept like fields, from the first step that has them', () => {
    const steps = new Steps(4)
    const kl = (n: number): Record<string, number> => (n < 3 ? {} : n === 5 ? { 'rewards/margins': 1 } : { 'rewards/margins': 1, kl: n })
    for (let n = 1; n <= 9; n++) steps.add({ ...step(n), metrics: kl(n) })
    expect(steps.metrics).toEqual(['kl', 'rewards/margins'])
    const { mean, low, high, last } = steps.column('kl')
    expect(steps.stride, 'pairs of buckets became one, twice').toBe(4)
    expect([low[0], high[0], last[0]], 'steps without it do not count').toEqual([3, 4, 4])
    expect(mean[1]).toBeCloseTo(7, 0)
    expect([low[1], high[1], last[2]]).toEqual([6, 8, 9])
    expect(steps.column('entropy').mean, 'what no step has is empty').toHaveLength(0)
  })
})

describe('steps that the backend has thinned out', () => {
  it('go on where they end, as if each had come one by one', () => {
    const whole = new Steps()
    const metrics = (n: number): Record<string, number> => (n > 5000 ? { kl: n } : {})
    const add = (steps: Steps, n: number): void => steps.add({ ...step(n, Math.sin(n)), metrics: metrics(n) })
    for (let n = 1; n <= 10_001; n++) add(whole, n)
    const nulls = (values: Float64Array): (number | null)[] => Array.from(values, (value) => (Number.isNaN(value) ? null : value))
    const held = Array.from(whole.step, (last, at) => last - (whole.step[at - 1] ?? 0))
    const columns = Object.fromEntries(
      ['loss', 'learning_rate', 'grad_norm', 'tokens_per_second', 'kl'].map((name) => {
        const { low, high, mean, last } = whole.column(name)
        return [name, { low: nulls(low), high: nulls(high), mean: nulls(mean), last: nulls(last) }]
      }),
    )
    const again = new Steps()
    again.load({ stride: whole.stride, step: [...whole.step], epoch: [...whole.epoch], elapsed_ms: [...whole.elapsed], held, columns })
    for (const steps of [whole, again]) for (let n = 10_002; n <= 30_000; n++) add(steps, n)
    expect(again.count).toBe(30_000)
    expect([...again.step]).toEqual([...whole.step])
    for (const name of ['loss', 'kl']) {
      for (const kind of ['low', 'high', 'mean', 'last'] as const) expect([...again.column(name)[kind]], `${name} ${kind}`).toEqual([...whole.column(name)[kind]])
    }
  })
})

describe('steps in bounded memory', () => {
  it('keeps 720,000 steps in a fixed number of buckets without losing a spike or a step', () => {
    const steps = new Steps()
    const total = 720_000
    let sum = 0
    for (let n = 1; n <= total; n++) {
      const loss = n === 123_457 ? 99 : n === 600_001 ? -3 : (n % 100) / 100
      sum += loss
      steps.add(step(n, loss))
    }
    expect(steps.count, 'every step is counted').toBe(total)
    expect(steps.length, 'buckets are bounded').toBeLessThanOrEqual(CAPACITY)
    expect(steps.length, 'and at least half of them are in use, so that detail is not thrown away').toBeGreaterThan(CAPACITY / 4)
    expect(steps.stride * steps.length, 'each bucket stands for one stride of steps').toBeGreaterThanOrEqual(total)
    expect(steps.stride * (steps.length - 1)).toBeLessThan(total)
    const loss = steps.column('loss')
    expect(Math.max(...loss.high), 'the greatest value stays').toBe(99)
    expect(Math.min(...loss.low), 'the least value stays').toBe(-3)
    expect(steps.step.at(-1), 'the last step is the last bucket').toBe(total)
    expect(loss.last.at(-1), 'with its own value').toBe(0)
    const weighted = [...loss.mean].reduce((all, mean, at) => {
      const held = steps.step[at]! - (at === 0 ? 0 : steps.step[at - 1]!)
      return all + mean * held
    }, 0)
    expect(weighted / total, 'means stay means').toBeCloseTo(sum / total, 6)
    expect([...steps.step].every((value, at, all) => at === 0 || value > all[at - 1]!), 'steps rise').toBe(true)
  })

  it('does the steps behind a checkpoint again when a run is resumed', () => {
    const steps = new Steps(8)
    for (let n = 1; n <= 6; n++) steps.add(step(n, n))
    steps.add(step(4, 40))
    expect([...steps.step], 'what was lost is not drawn twice').toEqual([1, 2, 3, 4])
    expect(steps.column('loss').last.at(-1)).toBe(40)
    expect(steps.count).toBe(4)
  })
})

describe('the log of a run', () => {
  const at = '2026-01-01T00:00:00Z'
  let seq = 0
  const line = (event: object): EventLine => ({ ...event, seq: seq++, time: at }) as EventLine

  it('shows what came at most once a frame', () => {
    const log = new RunLog('train_1')
    for (let n = 1; n <= 1000; n++) log.add(line({ event: 'step', ...step(n) }))
    expect(log.last, 'nothing is shown before the frame').toBeNull()
    log.flush()
    expect(log.last?.step).toBe(1000)
    expect(log.version, 'one frame is one change').toBe(1)
    expect(log.steps.count).toBe(1000)
    log.stop()
  })

  it('sorts events by what they tell', () => {
    const log = new RunLog('train_1')
    log.add(line({ event: 'started', job_id: 'train_1', pid: 1, version: '1', resumed_from: null }))
    log.add(line({ event: 'phase', phase: 'training' }))
    log.add(line({ event: 'eval', step: 10, metrics: { eval_loss: 2 } }))
    log.add(line({ event: 'sample', step: 10, prompt: 'p', text: 'a' }))
    log.add(line({ event: 'download', file: 'f', bytes: 1, total_bytes: 2 }))
    log.add(line({ event: 'finished', result: { success: true, message: '' }, metrics: {} }))
    log.flush()
    expect(log.phase).toBe('training')
    expect(log.evals).toEqual([{ step: 10, metrics: { eval_loss: 2 } }])
    expect(log.samples).toEqual([{ step: 10, prompt: 'p', text: 'a' }])
    expect(log.download?.total_bytes).toBe(2)
    expect(log.finished?.result.success).toBe(true)
    expect(log.lines.map(({ event }) => event), 'transfers are no lines of the log').toEqual([
      'started', 'phase', 'eval', 'sample', 'finished',
    ])
    log.stop()
  })

  it('forgets what was measured behind the checkpoint that it goes on from', () => {
    const log = new RunLog('train_1')
    for (const n of [10, 20, 30]) log.add(line({ event: 'eval', step: n, metrics: { eval_loss: n } }))
    log.add(line({ event: 'started', job_id: 'train_1', pid: 1, version: '1', resumed_from: 20 }))
    log.flush()
    expect(log.evals.map((entry) => entry.step)).toEqual([10, 20])
    log.stop()
  })

  it('bounds evaluations and lines, and keeps the best evaluation', () => {
    const log = new RunLog('train_1')
    for (let n = 1; n <= 9000; n++) log.add(line({ event: 'eval', step: n, metrics: { eval_loss: n === 4321 ? 0.1 : 2 } }))
    log.flush()
    expect(log.evals.length).toBeLessThanOrEqual(2001)
    expect(log.lines.length).toBeLessThanOrEqual(2000)
    expect(log.evals.some((entry) => entry.metrics.eval_loss === 0.1), 'the best one is shown, however long the run').toBe(true)
    expect(log.evals.at(-1)?.step).toBe(9000)
    log.stop()
  })
})
