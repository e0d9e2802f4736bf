import { describe, expect, it } from 'vitest'
import { bestEval, bestOf, epochs, secondsLeft } from './progress'

describe('epochs', () => {
  it('are spread evenly until the first step tells their length', () => {
    expect(epochs(726, 0, null, 3)).toEqual({ notches: [242, 484], current: 1, count: 3 })
  })

  it('follow the run where max_steps bounds it', () => {
    expect(epochs(100, 3, 0.1, 1), '30 steps an epoch over 100 steps begin four').toEqual({
      notches: [30, 60, 90],
      current: 1,
      count: 4,
    })
    expect(epochs(100, 100, 100 / 30, 1).current).toBe(4)
    expect(epochs(20, 10, 0.1, 5), 'a run that ends within its first epoch has no notch').toEqual({
      notches: [],
      current: 1,
      count: 1,
    })
  })

  it('change with the first step of the next', () => {
    expect(epochs(90, 30, 1, 3).current).toBe(1)
    expect(epochs(90, 31, 31 / 30, 3).current).toBe(2)
  })
})

describe('time left', () => {
  const at = (step: number, seconds: number) => ({ step, elapsed_ms: seconds * 1000 })

  it('is the pace of the latest steps times the steps left', () => {
    expect(secondsLeft(100, at(50, 100), at(40, 90))).toBe(50)
    expect(secondsLeft(100, at(10, 20), null), 'from the start where nothing is earlier').toBe(180)
  })

  it('is unknown before the first step and after the last', () => {
    expect(secondsLeft(100, null, null)).toBeNull()
    expect(secondsLeft(100, at(100, 9), at(90, 8))).toBeNull()
  })
})

it('the best test loss is the lowest finite one, the earlier of equals', () => {
  const e = (step: number, eval_loss?: number) => ({ step, metrics: (eval_loss === undefined ? {} : { eval_loss }) as Record<string, number> })
  expect(bestEval([e(10, 2), e(20, 1.5), e(30, 1.5), e(40, Number.NaN), e(50)])?.step).toBe(20)
  expect(bestEval([])).toBeNull()
  expect(bestEval([e(0, 1), e(10, 2)])?.step, 'the base model is none of the run').toBe(10)
  expect(bestOf([{ step: 0, metrics: { f1: 90 } }, { step: 10, metrics: { f1: 40 } }, { step: 20, metrics: { f1: 60 } }], 'f1', true)?.step).toBe(20)
})
