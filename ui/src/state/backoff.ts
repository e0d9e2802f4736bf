// How long to wait before the next attempt at something that broke off: half a second, doubled up to half a minute.

const FIRST_MS = 500
const MOST_MS = 30_000

export class Backoff {
  #next = FIRST_MS

  /** It works again. */
  reset(): void {
    this.#next = FIRST_MS
  }

  /** Resolves when the next attempt may be made, or at once when there is to be none. */
  wait(signal: AbortSignal): Promise<void> {
    const delay = this.#next
    this.#next = Math.min(delay * 2, MOST_MS)
    return new Promise((resolve) => {
      if (signal.aborted) return resolve()
      const timer = setTimeout(done, delay)
      function done(): void {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      signal.addEventListener('abort', done)
    })
  }
}
