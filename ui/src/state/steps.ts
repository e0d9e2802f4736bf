// The values of a run's steps in bounded memory. Each bucket stands for the same number of steps; when all buckets are in
// use, pairs of them become one. Least, greatest, mean and last value of each bucket stay exact, so no spike is lost.
import type { StepStats } from '../api/generated'

/** The most buckets. A chart is some 1000 pixels wide, so this is finer than it can show. */
export const CAPACITY = 4096

/** What is kept of a step. */
export const FIELDS = ['loss', 'learning_rate', 'grad_norm', 'tokens_per_second'] as const
export type Field = (typeof FIELDS)[number]

/** One value over the steps: views that are valid until the next `add`. */
export interface Column {
  low: Float64Array
  high: Float64Array
  mean: Float64Array
  last: Float64Array
}

export class Steps {
  /** Steps that one bucket stands for. */
  stride = 1
  /** Buckets in use. */
  length = 0
  /** Steps that were added. */
  count = 0

  readonly #capacity: number
  /** The last step of each bucket. */
  readonly #step: Float64Array
  readonly #epoch: Float64Array
  /** Training time at the end of each bucket, in milliseconds. */
  readonly #elapsed: Float64Array
  /** Steps in each bucket: only the last one can have fewer than the stride. */
  readonly #held: Float64Array
  readonly #columns: Record<Field, Column>

  constructor(capacity = CAPACITY) {
    this.#capacity = capacity + (capacity % 2)
    const make = (): Float64Array => new Float64Array(this.#capacity)
    this.#step = make()
    this.#epoch = make()
    this.#elapsed = make()
    this.#held = make()
    this.#columns = Object.fromEntries(
      FIELDS.map((field) => [field, { low: make(), high: make(), mean: make(), last: make() }]),
    ) as Record<Field, Column>
  }

  /** The last step of each bucket. */
  get step(): Float64Array {
    return this.#step.subarray(0, this.length)
  }

  /** Epochs done after each bucket. */
  get epoch(): Float64Array {
    return this.#epoch.subarray(0, this.length)
  }

  /** Training time after each bucket, in milliseconds, earlier parts of a resumed run included. */
  get elapsed(): Float64Array {
    return this.#elapsed.subarray(0, this.length)
  }

  column(field: Field): Column {
    const { low, high, mean, last } = this.#columns[field]
    const n = this.length
    return { low: low.subarray(0, n), high: high.subarray(0, n), mean: mean.subarray(0, n), last: last.subarray(0, n) }
  }

  add(stats: StepStats): void {
    // A resumed run does the steps behind its checkpoint again: what was measured last counts.
    if (this.length > 0 && stats.step <= this.#step[this.length - 1]!) this.#cut(stats.step)
    const open = this.length > 0 && this.#held[this.length - 1]! < this.stride
    if (!open && this.length === this.#capacity) this.#halve()
    const joins = this.length > 0 && this.#held[this.length - 1]! < this.stride
    const at = joins ? this.length - 1 : this.length++
    const held = joins ? this.#held[at]! : 0
    this.#held[at] = held + 1
    this.#step[at] = stats.step
    this.#epoch[at] = stats.epoch
    this.#elapsed[at] = stats.elapsed_ms
    this.count++
    for (const field of FIELDS) {
      const value = valueOf(stats, field)
      const { low, high, mean, last } = this.#columns[field]
      low[at] = held === 0 ? value : Math.min(low[at]!, value)
      high[at] = held === 0 ? value : Math.max(high[at]!, value)
      mean[at] = held === 0 ? value : mean[at]! + (value - mean[at]!) / (held + 1)
      last[at] = value
    }
  }

  clear(): void {
    this.length = 0
    this.count = 0
    this.stride = 1
  }

  /** Drops what was measured at `step` and after. */
  #cut(step: number): void {
    while (this.length > 0 && this.#step[this.length - 1]! >= step) {
      this.length--
      this.count -= this.#held[this.length]!
    }
  }

  #halve(): void {
    const half = this.#capacity / 2
    for (let to = 0; to < half; to++) {
      const a = to * 2
      const b = a + 1
      const heldA = this.#held[a]!
      const heldB = this.#held[b]!
      for (const field of FIELDS) {
        const { low, high, mean, last } = this.#columns[field]
        low[to] = Math.min(low[a]!, low[b]!)
        high[to] = Math.max(high[a]!, high[b]!)
        mean[to] = (mean[a]! * heldA + mean[b]! * heldB) / (heldA + heldB)
        last[to] = last[b]!
      }
      this.#held[to] = heldA + heldB
      this.#step[to] = this.#step[b]!
      this.#epoch[to] = this.#epoch[b]!
      this.#elapsed[to] = this.#elapsed[b]!
    }
    this.length = half
    this.stride *= 2
  }
}

function valueOf(stats: StepStats, field: Field): number {
  if (field === 'tokens_per_second') return stats.step_ms > 0 ? (stats.tokens * 1000) / stats.step_ms : 0
  return stats[field]
}
