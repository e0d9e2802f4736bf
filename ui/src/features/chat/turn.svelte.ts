// A question with its answers as they are on screen, growing while a model writes.
import type { AppError } from '../../api/client'
import type { GenerateStats } from '../../api/generated'
import type { KeptTurn, Side } from './turns'

/** `reading`: asked, no word yet. `stopped`: the person ended it. */
export type Phase = 'none' | 'queued' | 'reading' | 'writing' | 'done' | 'stopped' | 'failed'

export class Answer {
  readonly side: Side
  phase = $state<Phase>('none')
  text = $state('')
  stats = $state.raw<GenerateStats | null>(null)
  error = $state.raw<AppError | null>(null)
  /** Whether the model had to be brought into memory for this answer. */
  loading = $state(false)

  #pending = ''
  #frame = 0

  constructor(side: Side, text = '', stats: GenerateStats | null = null) {
    this.side = side
    this.text = text
    this.stats = stats
    // An answer that was cut off, as by a reload, was kept without its numbers.
    if (text !== '') this.phase = stats && stats.finish !== 'cancelled' ? 'done' : 'stopped'
  }

  get live(): boolean {
    return this.phase === 'queued' || this.phase === 'reading' || this.phase === 'writing'
  }

  clear(): void {
    this.#drop()
    this.text = ''
    this.stats = null
    this.error = null
    this.loading = false
    this.phase = 'queued'
  }

  /** Adds text with the next frame: a model writes faster than a screen is drawn. */
  write(text: string): void {
    this.#pending += text
    if (this.phase === 'reading') this.phase = 'writing'
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#flush())
  }

  /** The model has ended, with all of its text where it told that. */
  end(text: string, stats: GenerateStats): void {
    this.#drop()
    this.text = text
    this.stats = stats
    this.phase = stats.finish === 'cancelled' ? 'stopped' : 'done'
  }

  /** The person has ended it before the model told anything more. */
  stop(): void {
    this.#flush()
    this.phase = this.text === '' ? 'none' : 'stopped'
  }

  fail(error: AppError): void {
    this.#flush()
    this.error = error
    this.phase = 'failed'
  }

  #flush(): void {
    const pending = this.#pending
    this.#drop()
    if (pending !== '') this.text += pending
  }

  #drop(): void {
    if (this.#frame !== 0) cancelAnimationFrame(this.#frame)
    this.#frame = 0
    this.#pending = ''
  }
}

let last = 0

export class Turn implements KeptTurn {
  readonly key = ++last
  readonly question: string
  readonly context: string | null
  readonly answers: readonly Answer[]

  constructor(question: string, context: string | null, answers: readonly Answer[]) {
    this.question = question
    this.context = context
    this.answers = answers
  }

  /** A turn to be answered, by both sides or by the chosen model alone. */
  static ask(question: string, context: string | null, compare: boolean): Turn {
    const sides: Side[] = compare ? ['base', 'chosen'] : ['chosen']
    return new Turn(question, context, sides.map((side) => new Answer(side)))
  }

  /** A turn as it was kept. */
  static kept({ question, context, answers }: KeptTurn): Turn {
    const both = answers.length > 1
    const made = answers.map(({ text, stats }, at) => new Answer(both && at === 0 ? 'base' : 'chosen', text, stats))
    return new Turn(question, context, made.length > 0 ? made : [new Answer('chosen')])
  }
}
