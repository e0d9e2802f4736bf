// One run: its events, what can be done with it, and what was ordered.
import { AppError, call, isAbort } from '../../../api/client'
import type { Phase, Run, RunSpec } from '../../../api/generated'
import type { SchemaField } from '../../../components/schema'
import { RunLog, models, runs } from '../../../state'
import { bestEval, epochs, secondsLeft, type Epochs } from '../progress'
import { seconds } from '../times'

export type Order = 'pause' | 'keep' | 'discard'
/** What the run is doing, or how it ended. */
export type Stage = Exclude<Run['status'], 'running'> | Phase | 'starting' | 'downloading' | 'pausing' | 'finishing' | 'discarding'

export interface Problem {
  what: 'pause' | 'resume' | 'stop' | 'delete' | 'queue'
  message: string
}

const ORDERED: Record<Order, Stage> = { pause: 'pausing', keep: 'finishing', discard: 'discarding' }
/** The pace is that of this many latest points of the curve. */
const PACE_POINTS = 50
const RATE_POINTS = 10
const TICK_MS = 1000

export class Monitor {
  readonly jobId: string
  readonly log: RunLog

  spec = $state.raw<RunSpec | null>(null)
  schema = $state.raw<readonly SchemaField[]>([])
  loading = $state(true)
  /** Why the run cannot be shown. */
  error = $state.raw<AppError | null>(null)
  /** What the engine was told and has not done yet. */
  order = $state<Order | null>(null)
  /** Whether an order, a resumption or a deletion is on its way to the backend. */
  busy = $state(false)
  problem = $state.raw<Problem | null>(null)
  now = $state(Date.now())

  #first = $state.raw<Run | null>(null)
  /** Whether the list has had this run: a new one takes a moment to get there. */
  #seen = $state(false)
  /** The newest log line when the run was taken up: what came before tells nothing of the new engine. */
  #resumedAfter = $state<number | null>(null)

  constructor(jobId: string) {
    this.jobId = jobId
    this.log = new RunLog(jobId)
  }

  /** Follows the run; returns what ends that. */
  start(): () => void {
    const ends = new AbortController()
    this.log.start()
    void runs.ensure()
    void models.ensure()
    void this.#load(ends.signal)
    const timer = setInterval(() => {
      if (this.running && !document.hidden) this.now = Date.now()
    }, TICK_MS)
    return () => {
      clearInterval(timer)
      ends.abort()
      this.log.stop()
    }
  }

  async #load(signal: AbortSignal): Promise<void> {
    try {
      const { spec, ...run } = await call('runs_get', { job_id: this.jobId }, { signal })
      this.spec = spec
      this.#first = run
      this.error = null
      if (!runs.get(this.jobId)) await runs.refresh()
      this.#seen = runs.get(this.jobId) !== undefined
    } catch (thrown) {
      if (isAbort(thrown)) return
      this.error = AppError.from(thrown)
    }
    this.loading = false
    // Without the schema the settings are shown as they are, unmarked.
    const schema = await call('finetune_config_schema', {}, { signal }).catch(() => [])
    this.schema = schema as unknown as SchemaField[]
  }

  async reload(): Promise<void> {
    this.loading = true
    await this.#load(new AbortController().signal)
    this.log.start()
  }

  // How it stands

  readonly run: Run | null = $derived.by(() => runs.get(this.jobId) ?? this.#first)
  readonly running = $derived.by(() => this.run?.status === 'running')
  readonly missing = $derived.by(() => this.error?.status === 404)
  /** Whether it was seen to go away while it was shown. */
  readonly gone = $derived.by(() => this.#seen && runs.get(this.jobId) === undefined)

  readonly stage: Stage = $derived.by(() => {
    const { run, log, order } = this
    // A discarded run ends like an interrupted one before it is deleted.
    if (order === 'discard') return ORDERED.discard
    if (run && run.status !== 'running') return run.status
    if (order) return ORDERED[order]
    if (log.download && !log.loaded) return 'downloading'
    return (this.#fresh ? log.phase : null) ?? 'starting'
  })

  /** Whether the engine has told anything since the run was taken up. */
  readonly #fresh = $derived.by(() => (this.log.lines.at(-1)?.seq ?? -1) > (this.#resumedAfter ?? -1))

  /** Whether the strip tells what comes before the next step in place of numbers. */
  readonly preparing = $derived.by(
    () =>
      this.running &&
      (this.log.last === null || ['starting', 'downloading', 'preparing_data', 'loading_model'].includes(this.stage)),
  )

  readonly step = $derived.by(() => this.log.last?.step ?? this.run?.step ?? 0)
  readonly total = $derived.by(() => this.log.prepared?.total_steps ?? this.run?.total_steps ?? 0)
  readonly epochs: Epochs = $derived.by(() =>
    epochs(this.total, this.log.last?.step ?? 0, this.log.last?.epoch ?? null, this.run?.num_train_epochs ?? 1),
  )
  readonly best = $derived.by(() => bestEval(this.log.evals))

  /** The newest checkpoint, which the run would go on from. */
  readonly safe = $derived.by(() => this.log.checkpoint?.step ?? null)

  /** Of the latest steps; of all steps once the run computes no more. */
  readonly tokensPerSecond: number | null = $derived.by(() => {
    const rates = this.log.steps.column('tokens_per_second').mean
    const latest = this.running ? rates.subarray(Math.max(0, rates.length - RATE_POINTS)) : rates
    return latest.length === 0 ? null : latest.reduce((sum, rate) => sum + rate, 0) / latest.length
  })

  /** Training time in seconds; while a run computes, up to this moment. */
  readonly elapsed: number | null = $derived.by(() => {
    const { last } = this.log
    if (!last) return null
    const ticking = this.running && !this.preparing
    return last.elapsed_ms / 1000 + (ticking ? seconds(last.time, this.now) : 0)
  })

  /** Seconds since the run was asked for, while it has no step to show. */
  readonly waiting = $derived.by(() =>
    this.spec ? seconds(this.log.lines.at(-1)?.time ?? this.spec.created_at, this.now) : null,
  )

  readonly left: number | null = $derived.by(() => {
    if (!this.running) return null
    const { step, elapsed } = this.log.steps
    const at = step.length - 1 - PACE_POINTS
    const earlier = at >= 0 ? { step: step[at]!, elapsed_ms: elapsed[at]! } : null
    return secondsLeft(this.total, this.log.last, earlier)
  })

  /** The run that has to end before this one can go on. */
  readonly blockedBy: Run | null = $derived.by(() =>
    runs.active && runs.active.job_id !== this.jobId ? runs.active : null,
  )

  readonly model = $derived.by(() => (this.run ? models.get(this.run.model_id) : undefined))

  // What can be done

  pause(): Promise<void> {
    return this.#give('pause', 'pause', () => call('runs_pause', { job_id: this.jobId }))
  }

  stopAndKeep(): Promise<void> {
    return this.#give('keep', 'stop', () => call('runs_stop', { job_id: this.jobId, keep: true }))
  }

  /** Also for a run that does not compute: then it is deleted. */
  discard(): Promise<void> {
    return this.#give('discard', 'stop', () => call('runs_stop', { job_id: this.jobId, keep: false }))
  }

  async resume(): Promise<void> {
    const newest = this.log.lines.at(-1)?.seq ?? -1
    await this.#try('resume', async () => {
      await call('runs_resume', { job_id: this.jobId })
      this.order = null
      this.#resumedAfter = newest
      await runs.refresh()
      this.log.start()
    })
  }

  /** Has it wait for the run that is under way. */
  async resumeLater(): Promise<void> {
    await this.#try('resume', async () => {
      await call('runs_resume', { job_id: this.jobId, queue: true })
      await runs.refresh()
    })
  }

  /** Has the queue go on that was held. */
  async letGo(): Promise<void> {
    await this.#try('queue', async () => {
      await call('queue_hold', { held: false })
      await runs.refresh()
    })
  }

  /** Takes it out of the queue. One that never began is gone then. */
  async leaveQueue(): Promise<boolean> {
    return this.#try('queue', async () => {
      await call('queue_remove', { job_id: this.jobId })
      await runs.refresh()
    })
  }

  /** True when it is gone. */
  delete(): Promise<boolean> {
    return this.#try('delete', async () => {
      await call('runs_delete', { job_id: this.jobId })
      await runs.refresh()
    })
  }

  /** Called when the run no longer computes: what was ordered is done. A discarded run is yet to be deleted. */
  settle(): void {
    if (this.order !== 'discard') this.order = null
  }

  async #give(order: Order, what: Problem['what'], send: () => Promise<unknown>): Promise<void> {
    await this.#try(what, async () => {
      await send()
      this.order = order
      await runs.refresh()
    })
  }

  async #try(what: Problem['what'], act: () => Promise<void>): Promise<boolean> {
    this.busy = true
    this.problem = null
    try {
      await act()
      return true
    } catch (thrown) {
      this.problem = { what, message: AppError.from(thrown).message }
      return false
    } finally {
      this.busy = false
    }
  }
}
