import { describe, expect, it } from 'vitest'
import { everyEpoch, nearest, xAxis, yAxis } from './scale'

const data = (...y: number[]) => ({ curves: [{ label: 'a', x: y.map((_, at) => at), y }] })

describe('the axes of a chart', () => {
  it('has at most five round ticks that hold all values', () => {
    for (const values of [[0.95, 2.4], [0, 1], [1e-5, 2e-4], [3, 3], [-2, 5], [1200, 98_000], [2e-4, 2e-4 + 3e-20], [0.3, 0.30000000000000004]]) {
      const axis = yAxis(data(...values))
      expect(axis.min, `${values} begin in the plot`).toBeLessThanOrEqual(Math.min(...values))
      expect(axis.max, `${values} end in the plot`).toBeGreaterThanOrEqual(Math.max(...values))
      expect(axis.ticks.length).toBeGreaterThanOrEqual(2)
      expect(axis.ticks.length, `${axis.ticks} are few enough to be read`).toBeLessThanOrEqual(6)
    }
    expect(yAxis(data(0.6, 2.4)).ticks).toEqual([0.5, 1, 1.5, 2, 2.5])
  })

  it('begins at 0 where asked, and includes the limit line', () => {
    expect(yAxis(data(0.2, 0.7), { zero: true }).min).toBe(0)
    expect(yAxis({ ...data(0.1, 0.2), limit: { value: 1, label: '' } }).max).toBeGreaterThanOrEqual(1)
  })

  it('leaves out what a logarithm has not', () => {
    const axis = yAxis(data(0, 0.01, 100), { log: true })
    expect(axis.min).toBeGreaterThan(0)
    expect(axis.ticks.every((tick) => tick >= axis.min && tick <= axis.max)).toBe(true)
  })

  it('names the last step of the run and no tick beside it', () => {
    expect(xAxis(0, 726, 7).ticks).toEqual([0, 200, 400, 600, 726])
    expect(xAxis(0, 48, 6).ticks.at(-1)).toBe(48)
    expect(xAxis(5, 5, 6).ticks).toEqual([5])
  })

  it('has an answer without any value', () => {
    expect(yAxis(data()).ticks.length).toBeGreaterThan(0)
    expect(yAxis(data(NaN)).ticks.length).toBeGreaterThan(0)
  })
})

describe('reading values', () => {
  it('finds the nearest point', () => {
    expect(nearest([1, 5, 9], 6.9)).toBe(1)
    expect(nearest([1, 5, 9], 7.1)).toBe(2)
    expect(nearest([1, 5, 9], -4)).toBe(0)
    expect(nearest([], 1)).toBe(-1)
  })

  it('marks few enough epochs to be told apart', () => {
    expect(everyEpoch(3, 600)).toBe(1)
    expect(600 / (100 / everyEpoch(100, 600))).toBeGreaterThanOrEqual(56)
    expect(everyEpoch(5, 0), 'a plot without width has no room').toBeGreaterThan(4)
  })
})
