// The model that is in memory to chat with.
import { AppError, call } from '../api/client'
import type { PlaygroundStatus } from '../api/generated'
import { changes } from './changes.svelte'

class Playground {
  status = $state.raw<PlaygroundStatus | null>(null)
  unloading = $state(false)
  error = $state.raw<AppError | null>(null)

  async refresh(): Promise<void> {
    try {
      this.status = await call('playground_status', {})
      this.error = null
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
  }

  /** Keeps `status` true until the function it returns is called: use it as an effect. */
  watch(): () => void {
    void this.refresh()
    return changes.on(({ topic }) => {
      if (topic === 'playground') void this.refresh()
    })
  }

  async unload(): Promise<void> {
    this.unloading = true
    try {
      await call('playground_unload', {})
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    await this.refresh()
    this.unloading = false
  }
}

export const playground = new Playground()
