import { describe, expect, it } from 'vitest'
import { plannedRate, plannedRest } from './schedule'

// The values of transformers that the engine's own tests hold its schedules to.
const CASES = [
  { type: 'linear', peak: 2e-4, total: 10, warmup: 0.3, want: [0, 6.666666666666667e-5, 1.3333333333333334e-4, 2e-4, 1.7142857142857143e-4, 1.4285714285714287e-4, 1.1428571428571428e-4, 8.571428571428571e-5, 5.714285714285714e-5, 2.857142857142857e-5] },
  { type: 'cosine', peak: 2e-4, total: 10, warmup: 0.3, want: [0, 6.666666666666667e-5, 1.3333333333333334e-4, 2e-4, 1.900968867902419e-4, 1.6234898018587337e-4, 1.2225209339563145e-4, 7.774790660436858e-5, 3.7651019814126654e-5, 9.903113209758096e-6] },
  { type: 'constant', peak: 1e-3, total: 7, warmup: 0.03, want: [0, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3] },
  { type: 'polynomial', peak: 1e-3, total: 7, warmup: 0.03, want: [0, 1e-3, 8.3335e-4, 6.667e-4, 5.0005e-4, 3.334e-4, 1.6674999999999996e-4] },
  { type: 'polynomial', peak: 1e-8, total: 3, warmup: 0, want: [1e-8, 1e-8, 1e-8] },
  { type: 'cosine', peak: 0.5, total: 3, warmup: 1, want: [0, 0.16666666666666666, 0.3333333333333333] },
] as const

describe('the planned learning rate', () => {
  it.each(CASES)('is the engine’s: $type over $total steps, warm-up $warmup', ({ type, peak, total, warmup, want }) => {
    const config = { learning_rate: peak, lr_scheduler_type: type, warmup_ratio: warmup }
    want.forEach((rate, done) => {
      expect(Math.abs(plannedRate(config, total, done + 1) - rate), `step ${done + 1}`).toBeLessThanOrEqual(1e-12 * peak)
    })
  })

  it('is drawn from the step under way to the last one, in few points', () => {
    const config = { learning_rate: 1e-4, lr_scheduler_type: 'cosine', warmup_ratio: 0 } as const
    const rest = plannedRest(config, 100_000, 40_000)
    expect(rest.steps[0]).toBe(40_000)
    expect(rest.steps.at(-1), 'the dashed line ends at the end of the run').toBe(100_000)
    expect(rest.steps.length, 'a long plan costs no more to draw than a short one').toBeLessThanOrEqual(201)
    expect(plannedRest(config, 10, 11).steps, 'a run that is over has no rest').toEqual([])
  })
})
