// What this machine has, and how busy it is while somebody looks.
import { AppError, call } from '../api/client'
import type { Hardware } from '../api/generated'
import type { Operations } from '../api/generated'

export type Load = Operations['hardware_load']['output']

const INTERVAL_MS = 2000

class ThisMachine {
  specs = $state.raw<Hardware | null>(null)
  load = $state.raw<Load | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)

  #watchers = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  async refresh(): Promise<void> {
    try {
      this.specs = await call('finetune_hardware_specs', {})
      this.error = null
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.loading = false
  }

  ensure(): Promise<void> {
    return this.specs ? Promise.resolve() : this.refresh()
  }

  /** Keeps `load` up to date until the function it returns is called: use it as an effect. */
  watch(): () => void {
    if (this.#watchers++ === 0) void this.#measure()
    return () => {
      if (--this.#watchers > 0) return
      clearTimeout(this.#timer)
      this.load = null
    }
  }

  async #measure(): Promise<void> {
    let again = true
    if (!document.hidden) {
      try {
        const load = await call('hardware_load', {})
        if (this.#watchers > 0) this.load = load
      } catch (thrown) {
        this.load = null
        again = AppError.from(thrown).status !== 404
      }
    }
    clearTimeout(this.#timer)
    if (this.#watchers > 0 && again) this.#timer = setTimeout(() => void this.#measure(), INTERVAL_MS)
  }
}

export const hardware = new ThisMachine()
