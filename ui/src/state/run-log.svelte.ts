// The events of one run: what it has told up to now at one go, thinned out by the backend, then each as it happens. Steps are
// thinned out as they come (see steps.ts); what is shown changes at most once a frame, however many events there are.
import { AppError, call, stream } from '../api/client'
import type { EventLine, Phase } from '../api/generated'
import { Backoff } from './backoff'
import { Steps } from './steps'

type Event<Name extends string> = Extract<EventLine, { event: Name }>

export interface Eval {
  /** 0 is the base model. */
  step: number
  metrics: Record<string, number>
  /** Rows whose answers were scored. */
  answered?: number
}

export interface Sample {
  step: number
  prompt: string
  text: string
}

export interface Download {
  file: string
  bytes: number
  total_bytes: number
}

/** Events that backends may send beyond those of `EventLine`. */
type MoreEvents = ({ event: 'sample' } & Sample) | ({ event: 'download' } & Download)

/** The most log lines, evaluations and samples; older lines go first. */
const MOST_LINES = 2000
const MOST_EVALS = 2000
const MOST_SAMPLES = 600

export class RunLog {
  readonly jobId: string

  /** Grows with every change of what is below: reading it makes an effect follow the columns of `steps`. */
  version = $state(0)
  /** The step done last. */
  last = $state.raw<Event<'step'> | null>(null)
  phase = $state.raw<Phase | null>(null)
  prepared = $state.raw<Event<'prepared'> | null>(null)
  loaded = $state.raw<Event<'loaded'> | null>(null)
  memory = $state.raw<Event<'memory'> | null>(null)
  checkpoint = $state.raw<Event<'checkpoint'> | null>(null)
  stopped = $state.raw<Event<'stopped'> | null>(null)
  finished = $state.raw<Event<'finished'> | null>(null)
  download = $state.raw<Download | null>(null)
  evals = $state.raw<readonly Eval[]>([])
  samples = $state.raw<readonly Sample[]>([])
  /** All events but the steps, the newest last. */
  lines = $state.raw<readonly EventLine[]>([])
  /** Whether the events so far have been read. */
  caughtUp = $state(false)
  /** Why nothing comes; it is tried again by itself, except where there is no such run. */
  error = $state.raw<AppError | null>(null)

  readonly #steps = new Steps()
  #ends: AbortController | null = null
  #after: number | undefined
  #frame: number | undefined
  /** What the next frame shows. */
  #next = {
    last: null as Event<'step'> | null,
    phase: null as Phase | null,
    prepared: null as Event<'prepared'> | null,
    loaded: null as Event<'loaded'> | null,
    memory: null as Event<'memory'> | null,
    checkpoint: null as Event<'checkpoint'> | null,
    stopped: null as Event<'stopped'> | null,
    finished: null as Event<'finished'> | null,
    download: null as Download | null,
    evals: [] as Eval[],
    samples: [] as Sample[],
    lines: [] as EventLine[],
  }

  constructor(jobId: string) {
    this.jobId = jobId
  }

  /** The columns of the steps; follows `version`. */
  get steps(): Steps {
    void this.version
    return this.#steps
  }

  /** Follows the run until it is over or `stop` is called. A run that is resumed can be started again. */
  start(): void {
    if (this.#ends) return
    const ends = new AbortController()
    this.#ends = ends
    void this.#follow(ends.signal).finally(() => {
      if (this.#ends === ends) this.#ends = null
    })
  }

  stop(): void {
    this.#ends?.abort()
    this.#ends = null
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame)
    this.#frame = undefined
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff()
    while (!signal.aborted) {
      try {
        if (this.#after === undefined) await this.#catchUp(signal)
        await stream(
          'runs_events',
          { job_id: this.jobId },
          (event, id) => {
            this.#after = id ?? event.seq
            backoff.reset()
            this.add(event)
          },
          { signal, after: this.#after },
        )
        this.error = null
        this.#flushSoon(true)
        // The stream of a run that computes ends only when its host goes away.
        if (this.#next.finished || this.#next.stopped || this.#after === undefined) return
        // An engine that was killed has no last word.
        if ((await call('runs_get', { job_id: this.jobId }, { signal })).status !== 'running') return
      } catch (thrown) {
        if (signal.aborted) return
        this.error = AppError.from(thrown)
        if (this.error.status >= 400 && this.error.status < 500) return
      }
      await backoff.wait(signal)
    }
  }

  /** Takes in all that the run has told up to now. */
  async #catchUp(signal: AbortSignal): Promise<void> {
    const { after, steps, last, events } = await call('runs_curve', { job_id: this.jobId }, { signal })
    this.#steps.load(steps)
    if (last?.event === 'step') this.#next.last = last
    for (const event of events) this.add(event)
    if (after === null) return
    this.#after = after
    this.#flushSoon(true)
  }

  /** Takes in one event. */
  add(line: EventLine): void {
    const next = this.#next
    const event = line as EventLine | (MoreEvents & { seq: number; time: string })
    switch (event.event) {
      case 'step':
        this.#steps.add(event)
        next.last = event
        break
      case 'started':
        // The evaluations and samples behind the checkpoint that it goes on from come again.
        next.stopped = null
        next.finished = null
        if (event.resumed_from !== null) this.#cut(event.resumed_from)
        break
      case 'phase':
        next.phase = event.phase
        break
      case 'eval':
        next.evals.push({ step: event.step, metrics: event.metrics, ...(event.answered_rows ? { answered: event.answered_rows } : {}) })
        if (next.evals.length > MOST_EVALS) next.evals = thin(next.evals)
        break
      case 'sample':
        next.samples.push({ step: event.step, prompt: event.prompt, text: event.text })
        if (next.samples.length > MOST_SAMPLES) next.samples.splice(0, next.samples.length - MOST_SAMPLES)
        break
      case 'prepared':
        next.prepared = event
        break
      case 'loaded':
        next.loaded = event
        next.download = null
        break
      case 'memory':
        next.memory = event
        break
      case 'checkpoint':
        next.checkpoint = event
        break
      case 'stopped':
        next.stopped = event
        break
      case 'finished':
        next.finished = event
        break
      case 'download':
        next.download = { file: event.file, bytes: event.bytes, total_bytes: event.total_bytes }
        break
    }
    if (event.event !== 'step' && event.event !== 'memory' && event.event !== 'download') {
      next.lines.push(line)
      if (next.lines.length > MOST_LINES * 1.25) next.lines.splice(0, next.lines.length - MOST_LINES)
    }
    this.#flushSoon()
  }

  #cut(step: number): void {
    const next = this.#next
    next.evals = next.evals.filter((entry) => entry.step <= step)
    next.samples = next.samples.filter((entry) => entry.step <= step)
  }

  #flushSoon(caughtUp = false): void {
    if (caughtUp) this.caughtUp = true
    this.#frame ??= requestAnimationFrame(() => this.flush())
  }

  /** Shows what came since the last frame. */
  flush(): void {
    this.#frame = undefined
    const next = this.#next
    this.last = next.last
    this.phase = next.phase
    this.prepared = next.prepared
    this.loaded = next.loaded
    this.memory = next.memory
    this.checkpoint = next.checkpoint
    this.stopped = next.stopped
    this.finished = next.finished
    this.download = next.download
    if (this.evals.length !== next.evals.length || this.evals.at(-1) !== next.evals.at(-1)) this.evals = [...next.evals]
    if (this.samples.at(-1) !== next.samples.at(-1)) this.samples = [...next.samples]
    if (this.lines.at(-1) !== next.lines.at(-1)) this.lines = next.lines.slice(-MOST_LINES)
    this.caughtUp = true
    this.version++
  }
}

/** Every second evaluation, the best and the last in any case. */
function thin(evals: Eval[]): Eval[] {
  const loss = (entry: Eval): number => entry.metrics.eval_loss ?? Infinity
  const best = evals.reduce((a, b) => (loss(b) < loss(a) ? b : a))
  return evals.filter((entry, at) => at % 2 === 0 || entry === best || at === evals.length - 1)
}
