// Putting a model into a repository of the Hub. It goes on while its dialog is closed.
import { AppError, call } from '../../api/client'
import type { HubWhoamiOutput } from '../../api/generated'

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

export class Push {
  readonly model: string
  readonly repository: string
  busy = $state(true)
  /** The repository's page once it has the model. */
  url = $state<string | null>(null)
  error = $state.raw<AppError | null>(null)

  constructor(model: string, repository: string, secret: boolean) {
    this.model = model
    this.repository = repository
    void this.#run(secret)
  }

  async #run(secret: boolean): Promise<void> {
    try {
      const done = await call('hub_push', { model_id: this.model, repo_name: this.repository, private: secret })
      this.url = done.repo_url
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.busy = false
  }
}

class Pushes {
  list = $state.raw<readonly Push[]>([])

  /** The push of a model that is under way or was done last. */
  of(model: string): Push | undefined {
    return this.list.find((push) => push.model === model)
  }

  start(model: string, repository: string, secret: boolean): void {
    this.forget(model)
    this.list = [...this.list, new Push(model, repository, secret)]
  }

  forget(model: string): void {
    this.list = this.list.filter((push) => push.model !== model)
  }
}

export const pushes = new Pushes()
