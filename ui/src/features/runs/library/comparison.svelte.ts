// Several runs side by side: their curves on one pair of axes, and what differs in their settings.
import { AppError, call, isAbort } from '../../../api/client'
import type { Run, RunSpec } from '../../../api/generated'
import { RunLog } from '../../../state'
import { measuredNames } from '../../../state/metrics'
import { bestEval } from '../progress'
import { compare } from '../settings-diff'
import { smooth } from '../smoothing'
import { MOST_COMPARED } from './library.svelte'

/** The training loss, the test loss, or what evaluations or steps measured by this name. */
export type What = 'loss' | 'test' | (string & {})
export type Along = 'steps' | 'time'

/** A curve's points: x and y of each. */
export interface Curve {
  x: number[]
  y: number[]
}

/** As much of the average as stays from step to step: curves of several runs are told apart only when they are smooth. */
const SMOOTHING = 0.9

export class Compared {
  readonly id: string
  readonly log: RunLog
  run = $state.raw<Run | null>(null)
  spec = $state.raw<RunSpec | null>(null)
  error = $state.raw<AppError | null>(null)

  constructor(id: string) {
    this.id = id
    this.log = new RunLog(id)
  }

  readonly best = $derived.by(() => bestEval(this.log.evals)?.metrics.eval_loss ?? null)
  /** The base model's values, by metric name. */
  readonly base: Readonly<Record<string, number>> = $derived.by(() => (this.log.evals[0]?.step === 0 ? this.log.evals[0].metrics : {}))
  readonly seconds = $derived.by(() => (this.log.last ? this.log.last.elapsed_ms / 1000 : null))

  async load(signal: AbortSignal): Promise<void> {
    try {
      const { spec, ...run } = await call('runs_get', { job_id: this.id }, { signal })
      this.run = run
      this.spec = spec
    } catch (thrown) {
      if (!isAbort(thrown)) this.error = AppError.from(thrown)
    }
  }

  curve(what: What, along: Along): Curve {
    const { step, elapsed, length } = this.log.steps
    /** Seconds of training after `at` steps: evaluations have no clock of their own. */
    const timeAt = (at: number): number => {
      let low = 0
      let high = length - 1
      while (low < high) {
        const middle = (low + high) >> 1
        if (step[middle]! < at) low = middle + 1
        else high = middle
      }
      return length > 0 && at > 0 ? elapsed[low]! / 1000 : 0
    }
    if (what !== 'loss') {
      const name = what === 'test' ? 'eval_loss' : what
      const evals = this.log.evals.filter((entry) => entry.metrics[name] !== undefined)
      if (evals.length === 0 && name !== 'eval_loss') return this.#overSteps(name, along)
      return {
        x: evals.map((entry) => (along === 'steps' ? entry.step : timeAt(entry.step))),
        y: evals.map((entry) => entry.metrics[name]!),
      }
    }
    return this.#overSteps('loss', along)
  }

  #overSteps(name: string, along: Along): Curve {
    const { step, elapsed } = this.log.steps
    const { mean } = this.log.steps.column(name)
    if (mean.length === 0) return { x: [], y: [] }
    return {
      x: along === 'steps' ? Array.from(step) : Array.from(elapsed, (ms) => ms / 1000),
      y: smooth(step, mean, SMOOTHING),
    }
  }
}

export class Comparison {
  readonly all: readonly Compared[]
  what = $state<What>('loss')
  along = $state<Along>('steps')
  /** Whether settings that are the same are listed too. */
  everything = $state(false)
  loading = $state(true)

  constructor(ids: readonly string[]) {
    this.all = [...new Set(ids)].slice(0, MOST_COMPARED).map((id) => new Compared(id))
  }

  /** Reads the runs and follows those that compute; returns what ends that. */
  start(): () => void {
    const ends = new AbortController()
    for (const one of this.all) one.log.start()
    void Promise.all(this.all.map((one) => one.load(ends.signal))).then(() => (this.loading = false))
    return () => {
      ends.abort()
      for (const one of this.all) one.log.stop()
    }
  }

  /** Runs that could be read, in the order of their colours. */
  readonly here = $derived.by(() => this.all.filter((one) => one.spec !== null))
  readonly lost = $derived.by(() => this.all.filter((one) => one.error !== null))
  readonly rows = $derived.by(() => compare(this.here.map((one) => one.spec!.config)))
  readonly differing = $derived.by(() => this.rows.filter((row) => row.differs))
  readonly shown = $derived.by(() => (this.everything ? this.rows : this.differing))
  /** What was measured besides the losses in any of the runs. */
  readonly scores = $derived.by(() => {
    const measured = this.here.flatMap(({ log }) => [
      ...log.evals.map(({ metrics }) => metrics),
      Object.fromEntries(log.steps.metrics.map((name) => [name, 0])),
    ])
    return measuredNames(measured).filter((name) => name !== 'eval_loss')
  })
  readonly tested = $derived.by(() => this.here.some((one) => one.log.evals.length > 0))

  /** Runs of the same name are told apart by a number. */
  nameOf(one: Compared): string {
    const name = one.run?.name ?? one.id
    const same = this.here.filter((other) => other.run?.name === name)
    return same.length > 1 ? `${name} (${same.indexOf(one) + 1})` : name
  }
}
