// Ranges and ticks of the axes.
import type { ChartData } from './types'

export interface Axis {
  min: number
  max: number
  ticks: number[]
}

/** The step of at most `count` round ticks over a span. */
export function roundStep(span: number, count: number): number {
  const raw = span / count
  const size = 10 ** Math.floor(Math.log10(raw))
  const part = raw / size
  return (part <= 1 ? 1 : part <= 2 ? 2 : part <= 2.5 ? 2.5 : part <= 5 ? 5 : 10) * size
}

/** Without what binary fractions add to decimal ones. */
function exact(value: number): number {
  return Number(value.toPrecision(12))
}

function ticks(min: number, max: number, step: number): number[] {
  const all: number[] = []
  for (let at = Math.ceil(min / step - 1e-9); at * step <= max + step * 1e-9; at++) all.push(exact(at * step))
  return all
}

/** The least and the greatest value; on a logarithmic axis only those above 0 count. */
export function extent(data: ChartData, log: boolean): [number, number] | null {
  let min = Infinity
  let max = -Infinity
  const take = (values: ArrayLike<number> | undefined): void => {
    for (let at = 0; at < (values?.length ?? 0); at++) {
      const value = values![at]!
      if (!Number.isFinite(value) || (log && value <= 0)) continue
      if (value < min) min = value
      if (value > max) max = value
    }
  }
  for (const curve of data.curves) {
    take(curve.y)
    take(curve.low)
    take(curve.high)
  }
  take(data.points?.y)
  take(data.plan?.y)
  if (data.limit) take([data.limit.value])
  return min <= max ? [min, max] : null
}

/** An upright axis with at most five round ticks; `zero` has it begin at 0. */
export function yAxis(data: ChartData, { log = false, zero = false, most = 5 } = {}): Axis {
  const found = extent(data, log)
  if (!found) return { min: log ? 0.1 : 0, max: 1, ticks: log ? [0.1, 1] : [0, 1] }
  let [min, max] = found
  if (log) return logAxis(min, max, most)
  if (zero) {
    min = Math.min(0, min)
    max = Math.max(0, max)
  }
  // What differs only by rounding is one value: no tick lies between.
  if (max - min <= Math.max(Math.abs(min), Math.abs(max)) * 1e-9) {
    const room = Math.abs(min) * 0.1 || 1
    min -= zero && min === 0 ? 0 : room
    max += room
  }
  const step = roundStep(max - min, most - 1)
  min = exact(Math.floor(min / step + 1e-9) * step)
  max = exact(Math.ceil(max / step - 1e-9) * step)
  return { min, max, ticks: ticks(min, max, step) }
}

function logAxis(least: number, greatest: number, most: number): Axis {
  const min = least / 1.08
  const max = greatest * 1.08
  const decades = Math.log10(max / min)
  if (decades < 0.7) return { min, max, ticks: ticks(min, max, roundStep(max - min, most)) }
  const parts = decades < 2 ? [1, 2, 5] : [1]
  const all: number[] = []
  for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max); power++) {
    for (const part of parts) {
      const value = Number((part * 10 ** power).toPrecision(6))
      if (value >= min && value <= max) all.push(value)
    }
  }
  const every = Math.ceil(all.length / most)
  return { min, max, ticks: all.filter((_, at) => at % every === 0) }
}

/** The axis of the steps: round ticks and the last step, which none of them comes close to. */
export function xAxis(min: number, max: number, most: number): Axis {
  if (!(max > min)) return { min, max: min + 1, ticks: [min] }
  const step = Math.max(1, roundStep(max - min, Math.max(1, most)))
  const round = ticks(min, max, step).filter((tick) => max - tick > step * 0.55)
  return { min, max, ticks: [...(round[0] === min ? [] : [min]), ...round.filter((tick) => tick === min || tick - min > step * 0.45), max] }
}

/** The place in rising values that is nearest to one; -1 without any. */
export function nearest(values: ArrayLike<number>, wanted: number): number {
  let low = 0
  let high = values.length - 1
  if (high < 0) return -1
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (values[middle]! < wanted) low = middle
    else high = middle
  }
  return Math.abs(values[low]! - wanted) <= Math.abs(values[high]! - wanted) ? low : high
}

/** Pixels that the name of an epoch needs. */
const EPOCH_ROOM = 64

/** Of so many epochs over a width, every how many-th is marked, so that names and lines stay apart. */
export function everyEpoch(epochs: number, width: number): number {
  return Math.max(1, Math.ceil((EPOCH_ROOM * epochs) / Math.max(width, 1)))
}
