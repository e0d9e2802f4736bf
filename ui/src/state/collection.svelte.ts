// A list of things with ids that the backend keeps: loaded when first wanted, fetched again when it changed.
import { AppError } from '../api/client'

export class Collection<T> {
  list = $state.raw<readonly T[]>([])
  /** Whether a first answer is still to come. */
  loading = $state(true)
  /** Why the last attempt failed; the list before that stays. */
  error = $state.raw<AppError | null>(null)

  /** Whether anybody has wanted it: only then a change is worth fetching. */
  wanted = false

  readonly #fetch: () => Promise<readonly T[]>
  readonly #id: (entry: T) => string
  readonly #byId = $derived(new Map(this.list.map((entry) => [this.#id(entry), entry])))
  #running: Promise<void> | null = null
  #again = false

  constructor(fetch: () => Promise<readonly T[]>, id: (entry: T) => string) {
    this.#fetch = fetch
    this.#id = id
  }

  get(id: string): T | undefined {
    return this.#byId.get(id)
  }

  /** Fetches the list. Asked again while it does, it fetches once more after that. */
  refresh(): Promise<void> {
    this.wanted = true
    if (this.#running) {
      this.#again = true
      return this.#running
    }
    this.#running = this.#load().finally(() => (this.#running = null))
    return this.#running
  }

  /** Fetches the list unless it is there. */
  ensure(): Promise<void> {
    return this.loading || this.error ? this.refresh() : Promise.resolve()
  }

  /** Puts one entry in the place of the one with its id. */
  replace(entry: T): void {
    const id = this.#id(entry)
    this.list = this.list.map((other) => (this.#id(other) === id ? entry : other))
  }

  async #load(): Promise<void> {
    do {
      this.#again = false
      try {
        this.list = await this.#fetch()
        this.error = null
      } catch (thrown) {
        this.error = AppError.from(thrown)
      }
      this.loading = false
    } while (this.#again)
  }
}
