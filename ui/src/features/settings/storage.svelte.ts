// What the app's data and the downloaded models take on disk.
import { AppError, call } from '../../api/client'
import type { Spare, StorageUsage } from '../../api/generated'
import type { Key } from '../../i18n'

export interface Part {
  name: Key
  bytes: number
  /** The class that colours it. */
  look: string
}

/** What is no longer needed, by kind, in the order they are offered: what costs least to do without first. */
const KINDS: Spare['kind'][] = ['download', 'checkpoints', 'export', 'run', 'base_model']

export interface Group {
  kind: Spare['kind']
  bytes: number
  items: Spare[]
}

export class Storage {
  value = $state.raw<StorageUsage | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)

  readonly parts = $derived(this.value ? partsOf(this.value) : [])
  readonly total = $derived(this.parts.reduce((sum, part) => sum + part.bytes, 0))

  readonly groups = $derived(groupsOf(this.value?.spare ?? []))

  /** Deletes these. What could not be deleted is told by the first error, once all were tried. */
  free = async (items: readonly Spare[]): Promise<void> => {
    let failed: unknown
    for (const { kind, id } of items) {
      try {
        await call('storage_free', { kind, id })
      } catch (thrown) {
        failed ??= thrown
      }
    }
    await this.refresh()
    if (failed) throw failed
  }

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

export function groupsOf(spare: readonly Spare[]): Group[] {
  const groups = KINDS.map((kind) => {
    const items = spare.filter((one) => one.kind === kind)
    return { kind, items, bytes: items.reduce((sum, one) => sum + one.bytes, 0) }
  })
  return groups.filter(({ items }) => items.length > 0)
}

/** The kinds that take any room, in a fixed order so that a colour always means the same. */
export function partsOf(usage: StorageUsage): Part[] {
  const all: Part[] = [
    { name: 'settings.storage.base', bytes: usage.cache_bytes, look: 'm-weights' },
    { name: 'settings.storage.runs', bytes: usage.runs_bytes, look: 'm-act' },
    { name: 'settings.storage.models', bytes: usage.models_bytes, look: 'm-adapter' },
    { name: 'settings.storage.exports', bytes: usage.exports_bytes, look: 'm-export' },
    { name: 'settings.storage.datasets', bytes: usage.datasets_bytes, look: 'm-optim' },
    { name: 'settings.storage.database', bytes: usage.database_bytes, look: 'm-other' },
  ]
  return all.filter((part) => part.bytes > 0)
}
