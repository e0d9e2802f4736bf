// One conversation: what was said, asking the model, stopping it, and keeping it all.
import { AppError, call, isAbort, stream } from '../../api/client'
import type { GenerateParams, Task } from '../../api/generated'
import { playground } from '../../state/playground.svelte'
import { usualParams, withSeed } from './sampling'
import { Turn, type Answer } from './turn.svelte'
import { fromMessages, toMessages, toRead } from './turns'

/** What a session has to know of the model it talks to. */
export interface Partner {
  readonly id: string
  readonly task: Task | null
  /** Whether it can answer as its base model does, too. */
  readonly tuned: boolean
}

export class Session {
  /** Null until it is kept for the first time. */
  id = $state<string | null>(null)
  title = $state<string | null>(null)
  /** The id that the model has, as it was kept: it may have been deleted since. */
  model = $state<string | null>(null)
  turns = $state.raw<readonly Turn[]>([])
  system = $state('')
  params = $state.raw<GenerateParams>(usualParams(null))
  compare = $state(false)
  busy = $state(false)
  loading = $state(false)
  loadError = $state.raw<AppError | null>(null)
  saveError = $state.raw<AppError | null>(null)

  /** Whether the sampling was chosen, so that another model must not change it. */
  #chosen = false
  #partner = $state.raw<Partner | null>(null)
  #stop: AbortController | null = null
  #stopping = false
  #discarded = false
  #saved: Promise<void> = Promise.resolve()

  get isNew(): boolean {
    return this.id === null && this.turns.length === 0
  }

  /** The model that it talks to; null while none is known, or where it was deleted. */
  get partner(): Partner | null {
    return this.#partner
  }

  get onDocuments(): boolean {
    return this.#partner?.task === 'summarization' || this.#partner?.task === 'extractive-question-answering'
  }

  async load(id: string): Promise<void> {
    this.id = id
    this.loading = true
    this.loadError = null
    try {
      const kept = await call('conversations_get', { conversation_id: id })
      this.title = kept.title
      this.model = kept.model
      this.system = kept.system_prompt ?? ''
      this.params = kept.params
      this.#chosen = true
      this.turns = fromMessages(kept.messages).map(Turn.kept)
      this.compare = (this.turns.at(-1)?.answers.length ?? 0) > 1
    } catch (thrown) {
      this.loadError = AppError.from(thrown)
    } finally {
      this.loading = false
    }
  }

  /** Talks to this model from now on. */
  choose(partner: Partner): void {
    this.#partner = partner
    if (partner.id !== this.model) this.model = partner.id
    if (!partner.tuned) this.compare = false
    if (!this.#chosen) this.params = usualParams(partner.task)
  }

  sample(change: Partial<GenerateParams>): void {
    this.#chosen = true
    this.params = { ...this.params, ...change }
  }

  usual(): void {
    this.#chosen = false
    this.params = usualParams(this.#partner?.task ?? null)
  }

  ask(question: string, context: string | null = null): Promise<void> {
    if (this.busy || !this.#partner) return Promise.resolve()
    const turn = Turn.ask(question, context, this.compare)
    this.turns = [...this.turns, turn]
    return this.#answer(turn)
  }

  /** Asks a turn's question again, in other words where they are given. What followed it is dropped. */
  again(turn: Turn, question = turn.question, context = turn.context): Promise<void> {
    const at = this.turns.indexOf(turn)
    if (at < 0 || this.busy || !this.#partner) return Promise.resolve()
    this.turns = this.turns.slice(0, at)
    return this.ask(question, context)
  }

  /** Ends the answer under way; what was written stays. */
  async stop(): Promise<void> {
    const stop = this.#stop
    if (!stop) return
    const writing = this.turns.at(-1)?.answers.some(({ phase }) => phase === 'writing')
    this.#stopping = true
    // An answer that is being written ends with its numbers; one that is not can only be left.
    if (!writing) return stop.abort()
    await call('playground_cancel', {}).catch(() => stop.abort())
  }

  /** Keeps it no more: it was deleted. */
  discard(): void {
    this.#discarded = true
    void this.stop()
  }

  async rename(title: string): Promise<void> {
    this.title = title
    await this.save()
    if (this.saveError) throw this.saveError
  }

  /** Keeps the conversation as it is now, one write after another. */
  save(): Promise<void> {
    this.#saved = this.#saved.then(() => this.#put())
    return this.#saved
  }

  async #put(): Promise<void> {
    if (this.#discarded || this.model === null || this.turns.length === 0) return
    const kept = {
      title: this.title,
      model: this.model,
      system_prompt: this.system.trim() || null,
      params: this.params,
      messages: toMessages(this.turns),
    }
    try {
      const conversation = await call('conversations_put', { id: this.id, ...kept }).catch((thrown: unknown) => {
        // Deleted from elsewhere while it is open here: it goes on as a new one.
        if (thrown instanceof AppError && thrown.status === 404) return call('conversations_put', kept)
        throw thrown
      })
      this.id = conversation.id
      this.title = conversation.title
      this.saveError = null
    } catch (thrown) {
      this.saveError = AppError.from(thrown)
    }
  }

  async #answer(turn: Turn): Promise<void> {
    this.busy = true
    this.#stopping = false
    const stop = new AbortController()
    this.#stop = stop
    // The question is kept before its answer, so that a reload loses neither.
    void this.save()
    const params = withSeed(this.params)
    for (const answer of turn.answers) answer.clear()
    for (const answer of turn.answers) {
      if (this.#stopping) answer.stop()
      else await this.#speak(turn, answer, params, stop.signal)
    }
    this.#stop = null
    this.busy = false
    void playground.refresh()
    await this.save()
  }

  async #speak(turn: Turn, answer: Answer, params: GenerateParams, signal: AbortSignal): Promise<void> {
    const partner = this.#partner
    if (!partner) return
    const side = answer.side
    answer.loading = playground.status?.model_id !== partner.id
    answer.phase = 'reading'
    const input = {
      model_id: partner.id,
      messages: toRead(this.turns.slice(0, this.turns.indexOf(turn) + 1), side, this.system, this.onDocuments),
      params,
      context: turn.context,
      without_adapter: side === 'base',
    }
    try {
      await stream(
        'playground_stream',
        input,
        (piece) => {
          if (piece.type === 'done') return answer.end(piece.text, piece.stats)
          if (answer.phase === 'reading') void playground.refresh()
          answer.write(piece.text)
        },
        { signal },
      )
      if (answer.live) answer.stop()
    } catch (thrown) {
      if (isAbort(thrown)) answer.stop()
      else answer.fail(AppError.from(thrown))
    }
  }
}
