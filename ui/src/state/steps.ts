// The values of a run's steps in bounded memory. Each bucket stands for the same number of steps; when all buckets are in
// use, pairs of them become one. Least, greatest, mean and last value of each bucket stay exact, so no spike is lost.
import type { StepColumns, StepStats } from '../api/generated'

/** The most buckets; the backend thins out with as many. A chart is some 1000 pixels wide, so this is finer than it can show. */
export const CAPACITY = 4096

/** What is kept of every step, besides the named metrics of its strategy. */
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
  /** By field and by name of metric. A bucket before the first step that has a metric holds no number for it. */
  readonly #columns = new Map<string, Column>()

  constructor(capacity = CAPACITY) {
    this.#capacity = capacity + (capacity % 2)
    const make = (): Float64Array => new Float64Array(this.#capacity)
    this.#step = make()
    this.#epoch = make()
    this.#elapsed = make()
    this.#held = make()
    for (const field of FIELDS) this.#make(field)
  }

  /** The metrics that steps had, by name. */
  get metrics(): string[] {
    return [...this.#columns.keys()].slice(FIELDS.length).sort()
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

  /** A field, or a metric by its name; empty where no step had it. */
  column(field: Field | (string & {})): Column {
    const none = new Float64Array(0)
    const { low, high, mean, last } = this.#columns.get(field) ?? { low: none, high: none, mean: none, last: none }
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
    for (const name of Object.keys(stats.metrics ?? {})) if (!this.#columns.has(name)) this.#make(name)
    for (const [name, { low, high, mean, last }] of this.#columns) {
      const value = valueOf(stats, name)
      const first = held === 0 || Number.isNaN(mean[at]!)
      if (Number.isNaN(value) && !first) continue
      low[at] = first ? value : Math.min(low[at]!, value)
      high[at] = first ? value : Math.max(high[at]!, value)
      mean[at] = first ? value : mean[at]! + (value - mean[at]!) / (held + 1)
      last[at] = value
    }
  }

  /** Takes over what the backend has thinned out by the same rule, in place of all steps. */
  load(told: StepColumns): void {
    const n = Math.min(told.step.length, this.#capacity)
    this.length = n
    this.stride = Math.max(1, told.stride)
    this.#step.set(told.step.slice(0, n))
    this.#epoch.set(told.epoch.slice(0, n))
    this.#elapsed.set(told.elapsed_ms.slice(0, n))
    this.#held.set(told.held.slice(0, n))
    this.count = told.held.reduce((sum, held) => sum + held, 0)
    for (const [name, values] of Object.entries(told.columns)) {
      if (!this.#columns.has(name)) this.#make(name)
      const column = this.#columns.get(name)!
      for (const kind of ['low', 'high', 'mean', 'last'] as const) values[kind].slice(0, n).forEach((value, at) => (column[kind][at] = value ?? NaN))
    }
  }

  clear(): void {
    this.length = 0
    this.count = 0
    this.stride = 1
  }

  #make(name: string): void {
    const make = (): Float64Array => new Float64Array(this.#capacity).fill(NaN)
    this.#columns.set(name, { low: make(), high: make(), mean: make(), last: make() })
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
      for (const { low, high, mean, last } of this.#columns.values()) {
        const [one, other] = [Number.isNaN(mean[a]!), Number.isNaN(mean[b]!)]
        const only = one ? b : a
        low[to] = one || other ? low[only]! : Math.min(low[a]!, low[b]!)
        high[to] = one || other ? high[only]! : Math.max(high[a]!, high[b]!)
        mean[to] = one || other ? mean[only]! : (mean[a]! * heldA + mean[b]! * heldB) / (heldA + heldB)
        last[to] = other ? last[a]! : last[b]!
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

function valueOf(stats: StepStats, name: string): number {
  switch (name) {
    case 'tokens_per_second':
      return stats.step_ms > 0 ? (stats.tokens * 1000) / stats.step_ms : 0
    case 'loss':
    case 'learning_rate':
    case 'grad_norm':
      return stats[name]
    default:
      return stats.metrics?.[name] ?? NaN
  }
}
