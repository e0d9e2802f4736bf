// What the app's data and the downloaded models take on disk.
import { AppError, call } from '../../api/client'
import type { StorageUsage } from '../../api/generated'
import type { Key } from '../../i18n'

export interface Part {
  name: Key
  bytes: number
  /** The class that colours it. */
  look: string
}

export class Storage {
  value = $state.raw<StorageUsage | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)

  readonly parts = $derived(this.value ? partsOf(this.value) : [])
  readonly total = $derived(this.parts.reduce((sum, part) => sum + part.bytes, 0))

  refresh = async (): Promise<void> => {
    try {
      this.value = await call('storage_usage', {})
      this.error = null
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.loading = false
  }
}

/** The kinds that take any room, in a fixed order so that a colour always means the same. */
export function partsOf(usage: StorageUsage): Part[] {
  const all: Part[] = [
    { name: 'settings.storage.base', bytes: usage.cache_bytes, look: 'm-weights' },
    { name: 'settings.storage.runs', bytes: usage.runs_bytes, look: 'm-act' },
    { name: 'settings.storage.models', bytes: usage.models_bytes, look: 'm-adapter' },
    { name: 'settings.storage.datasets', bytes: usage.datasets_bytes, look: 'm-optim' },
    { name: 'settings.storage.database', bytes: usage.database_bytes, look: 'm-other' },
  ]
  return all.filter((part) => part.bytes > 0)
}
