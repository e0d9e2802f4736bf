// Putting a model into a repository of the Hub. It goes on while its dialog is closed.
import { AppError, call, isAbort, stream } from '../../api/client'
import type { PushItem, HubWhoamiOutput } from '../../api/generated'

/** Who one is on the Hub, and whether that may push. */
export class Account {
  told = $state.raw<HubWhoamiOutput | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)

  /** Names that repositories can start with: one's own and those of one's organizations. */
  readonly owners = $derived(this.told?.account ? [this.told.account.name, ...this.told.account.organizations] : [])
  readonly readOnly = $derived(this.told?.account?.token_role === 'read')

  async refresh(): Promise<void> {
    this.loading = true
    this.error = null
    try {
      this.told = await call('hub_whoami', {})
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.loading = false
  }
}

/** What is pushed, and how. */
export interface Wish {
  readonly repository: string
  /** Only its owners see it. */
  readonly secret: boolean
  /** The whole model instead of the adapter. */
  readonly merged: boolean
  /** Also into a repository that has files already. */
  readonly into: boolean
}

type Pushed = Extract<PushItem, { type: 'done' }>
type OnItsWay = Extract<PushItem, { type: 'merging' | 'sending' }>

export class Push {
  readonly model: string
  readonly wish: Wish
  busy = $state(true)
  progress = $state.raw<OnItsWay | null>(null)
  done = $state.raw<Pushed | null>(null)
  /** The repository has files already and was left alone. */
  exists = $state(false)
  error = $state.raw<AppError | null>(null)
  cancelled = $state(false)
  readonly #stop = new AbortController()

  constructor(model: string, wish: Wish) {
    this.model = model
    this.wish = wish
    void this.#run()
  }

  cancel(): void {
    this.#stop.abort()
  }

  async #run(): Promise<void> {
    const { repository, secret, merged, into } = this.wish
    const input = { model_id: this.model, repo_name: repository, private: secret, merged, into_existing: into }
    try {
      await stream('hub_upload', input, (item) => this.#take(item), { signal: this.#stop.signal })
    } catch (thrown) {
      if (!isAbort(thrown)) this.error = AppError.from(thrown)
    }
    this.cancelled = this.#stop.signal.aborted && this.done === null
    this.busy = false
  }

  #take(item: PushItem): void {
    if (item.type === 'done') this.done = item
    else if (item.type === 'exists') this.exists = true
    else this.progress = item
  }
}

class Pushes {
  list = $state.raw<readonly Push[]>([])

  /** The push of a model that is under way or was done last. */
  of(model: string): Push | undefined {
    return this.list.find((push) => push.model === model)
  }

  start(model: string, wish: Wish): void {
    this.forget(model)
    this.list = [...this.list, new Push(model, wish)]
  }

  forget(model: string): void {
    this.of(model)?.cancel()
    this.list = this.list.filter((push) => push.model !== model)
  }
}

export const pushes = new Pushes()
