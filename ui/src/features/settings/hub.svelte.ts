// Whose access token is in use, where it is kept, and how another one takes its place.
import { AppError, call } from '../../api/client'
import type { Account, TokenPlace, TokenSource } from '../../api/generated'

export class HubAccount {
  account = $state.raw<Account | null>(null)
  /** Where the token in use comes from; null while that is not known. */
  source = $state<TokenSource | null>(null)
  /** Where a token is looked for; empty while that is not known. */
  places = $state.raw<readonly TokenPlace[]>([])
  loading = $state(true)
  /** Why the Hub did not say whose token it is. There is a token then: without one it is not asked. */
  error = $state.raw<AppError | null>(null)

  /** Whether a token is being entered. */
  entering = $state(false)
  token = $state('')
  busy = $state(false)
  /** Why the token was not kept, or not forgotten. */
  failure = $state.raw<AppError | null>(null)
  /** The token that is in memory only, as long as it may still be kept in a file. */
  #unkept = $state<string | null>(null)

  #asked = new AbortController()

  get signedIn(): boolean {
    return this.source !== null ? this.source !== 'none' : this.error !== null
  }

  /** This computer has no keychain: a file may take its place, if the person wants that. */
  get offersFile(): boolean {
    return this.#unkept !== null && this.source === 'memory'
  }

  /** A token from outside of the app cannot be forgotten here. */
  get isOurs(): boolean {
    return this.source === null || this.source === 'keychain' || this.source === 'file' || this.source === 'memory'
  }

  async refresh(): Promise<void> {
    this.#asked.abort()
    const { signal } = (this.#asked = new AbortController())
    this.loading = true
    this.error = null
    // What was shown before stands where they are not told.
    call('hub_token_places', {}, { signal }).then((places) => (this.places = places), () => {})
    try {
      const { source, account } = await call('hub_whoami', {}, { signal })
      this.source = source
      this.account = account
    } catch (thrown) {
      if (signal.aborted) return
      this.account = null
      this.error = AppError.from(thrown)
    }
    if (!signal.aborted) this.loading = false
  }

  leave(): void {
    this.#asked.abort()
  }

  enter(): void {
    this.entering = true
    this.failure = null
  }

  cancel(): void {
    this.entering = false
    this.token = ''
    this.failure = null
  }

  async save(): Promise<void> {
    const token = this.token.trim()
    if (token === '') return
    const source = await this.#keep(token, false)
    if (source === null) return
    this.cancel()
    this.#unkept = source === 'memory' ? token : null
    await this.refresh()
  }

  /** Keeps the token in a file after all. */
  async keepInFile(): Promise<void> {
    if (this.#unkept !== null && (await this.#keep(this.#unkept, true)) !== null) this.#unkept = null
  }

  leaveInMemory(): void {
    this.#unkept = null
  }

  async signOut(): Promise<void> {
    this.busy = true
    this.failure = null
    try {
      this.source = (await call('hub_clear_token', {})).source
      this.account = null
      this.#unkept = null
      await this.refresh()
    } catch (thrown) {
      this.failure = AppError.from(thrown)
    }
    this.busy = false
  }

  async #keep(token: string, allow_file: boolean): Promise<TokenSource | null> {
    this.busy = true
    this.failure = null
    try {
      return (this.source = (await call('hub_set_token', { token, allow_file })).source)
    } catch (thrown) {
      this.failure = AppError.from(thrown)
      return null
    } finally {
      this.busy = false
    }
  }
}
