// Short messages about what succeeded elsewhere, one at a time. Errors do not go here: they stay on their page.

export interface Toast {
  text: string
  kind: 'ok' | 'bad'
  action?: { label: string; run: () => void }
}

const SHOWN_MS = 5000

class Toasts {
  current = $state.raw<Toast | null>(null)

  #waiting: Toast[] = []
  #timer: ReturnType<typeof setTimeout> | undefined
  #held = false

  show(text: string, action?: Toast['action'], kind: Toast['kind'] = 'ok'): void {
    this.#waiting.push({ text, kind, action })
    if (this.current === null) this.#next()
  }

  dismiss(): void {
    this.#held = false
    this.#next()
  }

  /** A message that is pointed at or focused stays. */
  hold(held: boolean): void {
    this.#held = held
    this.#wait()
  }

  #next(): void {
    this.current = this.#waiting.shift() ?? null
    this.#wait()
  }

  #wait(): void {
    clearTimeout(this.#timer)
    if (this.current && !this.#held) this.#timer = setTimeout(() => this.#next(), SHOWN_MS)
  }
}

export const toasts = new Toasts()
