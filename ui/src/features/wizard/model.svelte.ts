// The choice of a base model: what the catalogue offers this machine, and any other model, checked as it is typed.

import { AppError, call } from '../../api/client'
import type { CachedRepository, Fit, PossibleModel, Recommendation, RepoInfo, SampleDataset, Task } from '../../api/generated'
import type { ChosenModel, Draft, Values } from './draft'

/** Whether a model can be had. `refused` is for the person to solve, `failed` for the network or the folder. */
export type Reach =
  | { state: 'idle' | 'checking' | 'ok' }
  | { state: 'refused' | 'failed'; message: string }

/** What is known of a model that was typed in. */
export type OtherModel =
  | { state: 'idle' | 'malformed' | 'checking' }
  | { state: 'refused' | 'failed'; message: string }
  | { state: 'found'; name: string; info: RepoInfo | null; need: Need | null }

/** Absent numbers cannot be told before the model is on this computer. */
export interface Need {
  bytes: number
  free: number
  fit: Fit
  here: boolean
}

export type Sort = 'quality' | 'size'

const TYPING_MS = 400
const REPOSITORY = /^[A-Za-z0-9][\w.-]*(\/[A-Za-z0-9][\w.-]*)?$/

export class ModelChoice {
  catalogue = $state.raw<Recommendation | null>(null)
  /** Models in the Hub's cache that the catalogue does not name. */
  downloaded = $state.raw<CachedRepository[]>([])
  loading = $state(false)
  error = $state.raw<AppError | null>(null)
  sort = $state<Sort>('quality')
  reach = $state.raw<Reach>({ state: 'idle' })
  other = $state.raw<OtherModel>({ state: 'idle' })
  readonly #draft: () => Draft
  readonly #change: (patch: Partial<Draft>) => void
  #reaching = new AbortController()
  #typing: ReturnType<typeof setTimeout> | undefined
  #checking = new AbortController()

  constructor(draft: () => Draft, change: (patch: Partial<Draft>) => void) {
    this.#draft = draft
    this.#change = change
  }

  get recommended(): PossibleModel | null {
    const { catalogue } = this
    return catalogue?.possible.find((model) => model.name === catalogue.recommended) ?? null
  }

  get alternatives(): PossibleModel[] {
    const { catalogue } = this
    const others = catalogue?.possible.filter((model) => model.name !== catalogue.recommended) ?? []
    // The catalogue comes best first.
    return this.sort === 'quality' ? others : others.toSorted((a, b) => a.memory.total - b.memory.total)
  }

  known(name: string): PossibleModel | undefined {
    return this.catalogue?.possible.find((model) => model.name === name)
  }

  /** A model that needs no network. */
  get atHand(): PossibleModel | undefined {
    return this.catalogue?.possible.find((model) => model.cached)
  }

  async load(task: Task): Promise<void> {
    this.loading = this.catalogue === null
    this.error = null
    try {
      const [catalogue, storage] = await Promise.all([call('finetune_catalogue', { task }), call('storage_usage', {})])
      this.catalogue = catalogue
      const named = new Set(catalogue.possible.map((model) => model.name))
      this.downloaded = storage.cached.filter((one) => one.base_model !== null && !named.has(one.name))
      const { model } = this.#draft()
      const known = model && this.known(model.name)
      if (known && known.title !== model.title) this.#change({ model: { ...model, title: known.title } })
      if (!model && this.recommended) this.choose(chosen(this.recommended))
      else if (this.reach.state === 'idle') void this.checkChosen()
    } catch (error) {
      this.error = AppError.from(error)
    } finally {
      this.loading = false
    }
  }

  choose(model: ChosenModel): void {
    this.#change({ model })
    void this.checkChosen()
  }

  /** Whether the chosen model can be had: asked now, so that nobody finds out when the run starts. */
  async checkChosen(): Promise<void> {
    this.#reaching.abort()
    const asked = (this.#reaching = new AbortController())
    const model = this.#draft().model
    if (!model) {
      this.reach = { state: 'idle' }
      return
    }
    if (this.known(model.name)?.cached) {
      this.reach = { state: 'ok' }
      return
    }
    this.reach = { state: 'checking' }
    const reach = await reachOf(model.name, asked.signal)
    if (!asked.signal.aborted) this.reach = reach
  }

  /** Keeps what is typed and checks it once typing rests. */
  type(text: string, task: Task, samples: readonly SampleDataset[]): void {
    this.#change({ otherModel: text })
    clearTimeout(this.#typing)
    this.#checking.abort()
    const name = text.trim()
    if (name === '') {
      this.other = { state: 'idle' }
    } else if (!isFolder(name) && !REPOSITORY.test(name)) {
      this.other = { state: 'malformed' }
    } else {
      this.other = { state: 'checking' }
      this.#typing = setTimeout(() => void this.checkOther(name, task, samples), TYPING_MS)
    }
  }

  async checkOther(name: string, task: Task, samples: readonly SampleDataset[]): Promise<void> {
    this.#checking.abort()
    const { signal } = (this.#checking = new AbortController())
    this.other = { state: 'checking' }
    const reach = await reachOf(name, signal)
    if (signal.aborted) return
    if (reach.state === 'refused' || reach.state === 'failed') {
      this.other = reach
      return
    }
    const dataset = this.#draft().dataset ?? samples.find((sample) => sample.task === task)?.dataset
    const [info, need] = await Promise.all([
      isFolder(name) ? null : repoInfo(name, signal),
      dataset ? needOf(name, task, dataset, signal) : null,
    ])
    if (!signal.aborted) this.other = { state: 'found', name, info, need }
  }
}

/** A model of the catalogue as the draft keeps it. */
export function chosen({ name, title, strategy, bf16 }: PossibleModel): ChosenModel {
  const fitted: Values = {}
  if (strategy !== 'sft') fitted.strategy = strategy
  if (bf16) fitted.bf16 = true
  return { name, title, fitted }
}

export function isFolder(name: string): boolean {
  return /^([/\\~.]|[A-Za-z]:[/\\])/.test(name)
}

async function reachOf(name: string, signal: AbortSignal): Promise<Reach> {
  try {
    await call('finetune_validate_model', { selected_model: name }, { signal })
    return { state: 'ok' }
  } catch (error) {
    const { status, message } = AppError.from(error)
    return { state: status === 403 ? 'refused' : 'failed', message }
  }
}

/** What the Hub tells; a model that is here may be unknown there, which is no fault. */
async function repoInfo(name: string, signal: AbortSignal): Promise<RepoInfo | null> {
  try {
    return (await call('finetune_validate_custom_model', { repo_name: name }, { signal })).model_info
  } catch {
    return null
  }
}

/** Null where the model's shape is not known before it is downloaded. */
async function needOf(name: string, task: Task, dataset: string, signal: AbortSignal): Promise<Need | null> {
  try {
    const estimate = await call('finetune_estimate', { task, model_name: name, dataset, skip_bad_rows: true }, { signal })
    return {
      bytes: estimate.memory.total,
      free: estimate.free_memory_bytes,
      fit: estimate.fit,
      here: estimate.workload !== null,
    }
  } catch {
    return null
  }
}
