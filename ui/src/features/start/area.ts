// Where the points of a small loss curve lie in a square of 1000 by 1000 that is stretched to its place.
import { small } from '../../i18n'

/** More points than this cannot be told apart at the width of a card. */
const MOST_POINTS = 300

export interface Area {
  points: string
  ticks: { value: number; text: string; y: number }[]
  first: number
  last: number
  /** Where the last value lies. */
  x: number
  y: number
}

/** Null until there are two values to join. */
export function area(steps: Float64Array, losses: Float64Array, total: number | null): Area | null {
  const n = steps.length
  if (n < 2) return null
  const finite = losses.filter(Number.isFinite)
  if (finite.length < 2) return null
  const top = finite.reduce((a, b) => Math.max(a, b)) * 1.08 || 1
  const width = Math.max(total ?? 0, steps[n - 1]!)
  const x = (step: number): number => Math.round((step / width) * 10_000) / 10
  const y = (value: number): number => Math.round((1 - Math.max(0, value) / top) * 10_000) / 10

  const stride = Math.ceil(n / MOST_POINTS)
  const points: string[] = []
  for (let i = 0; i < n; i += stride) if (Number.isFinite(losses[i]!)) points.push(`${x(steps[i]!)},${y(losses[i]!)}`)
  const last = losses[n - 1]!
  if ((n - 1) % stride !== 0 && Number.isFinite(last)) points.push(`${x(steps[n - 1]!)},${y(last)}`)

  const every = nice(top / 2.5)
  const ticks = []
  for (let value = every; value < top * 0.98; value += every) ticks.push({ value, text: small(value), y: y(value) })
  const end = Number.isFinite(last) ? last : finite[finite.length - 1]!
  return { points: points.join(' '), ticks, first: finite[0]!, last: end, x: x(steps[n - 1]!), y: y(end) }
}

/** The points of a curve of equally spaced values in a box, with room for the line's width above and below. */
export function sparkline(values: readonly number[], width: number, height: number): string {
  const low = Math.min(...values)
  const span = Math.max(...values) - low || 1
  const round = (n: number): number => Math.round(n * 10) / 10
  return values
    .map((value, i) => `${round((i / (values.length - 1)) * width)},${round(2 + (1 - (value - low) / span) * (height - 4))}`)
    .join(' ')
}

/** 1, 2, 2.5 or 5 times a power of ten, not less than `least`. */
function nice(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least))
  for (const step of [1, 2, 2.5, 5]) if (step * power >= least) return step * power
  return 10 * power
}
