// The token of a protected server: asked for once when the server wants it, kept until the tab is closed.

const KEY = 'modelforge.token'

class Access {
  /** Whether a request waits for the token. */
  asked = $state(false)
  /** Whether the last token was refused. */
  refused = $state(false)

  #token: string | null = null
  #waiting: ((token: string) => void)[] = []

  constructor() {
    this.#token = sessionStorage.getItem(KEY)
  }

  get token(): string | null {
    return this.#token
  }

  /** Resolves with another token than the one that was refused. */
  ask(refused: string | null): Promise<string> {
    if (this.#token !== null && this.#token !== refused) return Promise.resolve(this.#token)
    this.refused = refused !== null
    this.asked = true
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  give(token: string): void {
    this.#token = token
    sessionStorage.setItem(KEY, token)
    this.asked = false
    for (const resolve of this.#waiting.splice(0)) resolve(token)
  }
}

export const access = new Access()
