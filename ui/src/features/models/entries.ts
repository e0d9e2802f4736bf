// What the list of models shows: yours and base models as one kind of row, filtered, sorted and grouped.
import type { ModelRow, Task } from '../../api/generated'
import type { BaseModel } from '../../state/base-models.svelte'

export interface Entry {
  readonly id: string
  readonly title: string
  /** Whether it was tuned here. */
  readonly yours: boolean
  /** What a model of yours was tuned from; null for a base model. */
  readonly base: string | null
  readonly tasks: readonly Task[]
  /** Null where it is part of the app. */
  readonly bytes: number | null
  /** RFC 3339; null for base models, as nothing tells when they came. */
  readonly made: string | null
  readonly strategy: string | null
  readonly known: BaseModel['known']
  readonly path: string | null
}

export type SortKey = 'title' | 'task' | 'bytes' | 'made'

export interface Sort {
  readonly key: SortKey
  readonly down: boolean
}

export interface Filter {
  readonly text: string
  readonly task: Task | null
}

export function ofModel(row: ModelRow): Entry {
  return {
    id: row.model_id,
    title: row.name,
    yours: true,
    base: row.base_model,
    tasks: [row.task as Task],
    bytes: Math.round(row.size_mb * 1e6),
    made: row.created_at,
    strategy: row.strategy,
    known: null,
    path: row.path,
  }
}

export function ofBase(model: BaseModel): Entry {
  return {
    id: model.id,
    title: model.title,
    yours: false,
    base: null,
    tasks: model.known?.tasks ?? [],
    bytes: model.bytes,
    made: null,
    strategy: null,
    known: model.known,
    path: model.path,
  }
}

/** Entries with every word of the text in their names, for the task. */
export function filtered(entries: readonly Entry[], { text, task }: Filter): Entry[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  return entries.filter((entry) => {
    if (task !== null && !entry.tasks.includes(task)) return false
    if (words.length === 0) return true
    const names = `${entry.title} ${entry.base ?? ''} ${entry.id}`.toLowerCase()
    return words.every((word) => names.includes(word))
  })
}

/** In the order of their names, numbers in them as numbers: what is sorted by another column stays so among equals. */
export function byName(entries: readonly Entry[]): Entry[] {
  const names = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' })
  return [...entries].sort((a, b) => names.compare(a.title, b.title))
}

/** Entries in the order of their names, sorted by one column; what lacks the value comes last either way. */
export function sorted(entries: readonly Entry[], { key, down }: Sort): Entry[] {
  if (key === 'title') return down ? [...entries].reverse() : [...entries]
  // Times in RFC 3339 UTC sort as they are.
  const value = (entry: Entry): string | number | null => (key === 'task' ? (entry.tasks[0] ?? null) : entry[key])
  return [...entries].sort((a, b) => {
    const [x, y] = [value(a), value(b)]
    if (x === y) return 0
    if (x === null || y === null) return x === null ? 1 : -1
    return x < y === down ? 1 : -1
  })
}

export type Row = { readonly type: 'group'; readonly yours: boolean; readonly entries: readonly Entry[] } | { readonly type: 'entry'; readonly entry: Entry }

/** The list with a heading above each group that has entries. */
export function grouped(entries: readonly Entry[]): Row[] {
  return [true, false].flatMap((yours): Row[] => {
    const group = entries.filter((entry) => entry.yours === yours)
    if (group.length === 0) return []
    return [{ type: 'group', yours, entries: group }, ...group.map((entry): Row => ({ type: 'entry', entry }))]
  })
}
