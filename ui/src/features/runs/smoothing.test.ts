import { expect, it } from 'vitest'
import { smooth } from './smoothing'

it('starts at the first value instead of near zero', () => {
  expect(smooth([1, 2, 3], [4, 4, 4], 0.9), 'the bias towards the start is corrected').toEqual([
    expect.closeTo(4, 12),
    expect.closeTo(4, 12),
    expect.closeTo(4, 12),
  ])
})

it('is the curve itself without smoothing', () => {
  expect(smooth([1, 2, 3], [3, 1, 2], 0)).toEqual([3, 1, 2])
})

it('weighs a gap by its width, so that a thinned-out curve keeps its shape', () => {
  const steps = Array.from({ length: 1000 }, (_, i) => i + 1)
  const values = steps.map((step) => 2 * Math.exp(-step / 300))
  const whole = smooth(steps, values, 0.95)
  const every = steps.filter((step) => step % 10 === 0)
  const thin = smooth(every, every.map((step) => values[step - 1]!), 0.95)
  every.forEach((step, i) => expect(Math.abs(thin[i]! - whole[step - 1]!), `step ${step}`).toBeLessThan(0.06))
})
