// The list of models as a person looks at it: what is searched for, how it is sorted, which one is open.
import type { Task } from '../../api/generated'
import { baseModels } from '../../state/base-models.svelte'
import { models } from '../../state'
import { byName, filtered, grouped, ofBase, ofModel, sorted, type Entry, type Sort, type SortKey } from './entries'

class Library {
  text = $state('')
  task = $state<Task | null>(null)
  sort = $state.raw<Sort>({ key: 'made', down: true })

  readonly entries = $derived(byName([...models.list.map(ofModel), ...baseModels.list.map(ofBase)]))
  readonly #byId = $derived(new Map(this.entries.map((entry) => [entry.id, entry])))
  readonly shown = $derived(sorted(filtered(this.entries, this), this.sort))
  readonly rows = $derived(grouped(this.shown))

  get(id: string | null): Entry | undefined {
    return id === null ? undefined : this.#byId.get(id)
  }

  /** Sorts by a column; once more turns it round. Numbers and times begin with the largest. */
  sortBy(key: SortKey): void {
    const down = this.sort.key === key ? !this.sort.down : key === 'bytes' || key === 'made'
    this.sort = { key, down }
  }

  clear(): void {
    this.text = ''
    this.task = null
  }

  /** The entry `by` places after this one in the list. */
  beside(id: string | null, by: number): Entry | undefined {
    const order = this.rows.flatMap((row) => (row.type === 'entry' ? [row.entry] : []))
    const at = order.findIndex((entry) => entry.id === id)
    return at < 0 ? order[0] : order[Math.min(order.length - 1, Math.max(0, at + by))]
  }
}

export const library = new Library()
