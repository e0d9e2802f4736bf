// Changes of the app's settings, one section at a time: what could not be changed says so where it was tried.
import { AppError } from '../../api/client'
import type { SettingsSetInput } from '../../api/generated'
import { settings } from '../../state'

export class Preferences {
  busy = $state(false)
  error = $state.raw<AppError | null>(null)

  /** Whether the change was made. */
  async set(patch: SettingsSetInput): Promise<boolean> {
    this.busy = true
    this.error = null
    try {
      await settings.set(patch)
      return true
    } catch (thrown) {
      this.error = AppError.from(thrown)
      return false
    } finally {
      this.busy = false
    }
  }
}

/** Minutes after which a model may leave memory; 0 is never. What was set otherwise is offered too. */
export function unloadChoices(now: number): number[] {
  const usual = [5, 15, 30, 60, 240, 0]
  if (usual.includes(now)) return usual
  return [...usual, now].sort((a, b) => (a === 0 ? 1 : b === 0 ? -1 : a - b))
}
