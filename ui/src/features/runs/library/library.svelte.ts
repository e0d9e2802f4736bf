// The list of all runs: what is shown of it, in which order, and what is picked to compare.
import { SvelteSet } from 'svelte/reactivity'
import type { Run, Task } from '../../../api/generated'
import { seconds } from '../times'

/** As many as there are colours for data. */
export const MOST_COMPARED = 5

export type Status = Run['status']
export type SortKey = 'created' | 'name' | 'loss' | 'steps' | 'duration'

export class Library {
  query = $state('')
  status = $state<Status | 'all'>('all')
  task = $state<Task | 'all'>('all')
  sort = $state<{ key: SortKey; ascending: boolean }>({ key: 'created', ascending: false })
  /** Ids of picked runs, in the order they were picked. */
  readonly picked = new SvelteSet<string>()

  readonly #all: () => readonly Run[]

  constructor(all: () => readonly Run[]) {
    this.#all = all
  }

  readonly shown: readonly Run[] = $derived.by(() => {
    const words = this.query.toLowerCase().split(/\s+/).filter(Boolean)
    const found = this.#all().filter(
      (run) =>
        (this.status === 'all' || run.status === this.status) &&
        (this.task === 'all' || run.task === this.task) &&
        words.every((word) => searched(run).includes(word)),
    )
    const { key, ascending } = this.sort
    return found.sort((a, b) => (ascending ? 1 : -1) * compareBy(key, a, b) || newer(a, b))
  })

  /** Picked runs that still exist, in the order they were picked. */
  readonly compared: readonly Run[] = $derived.by(() => {
    const byId = new Map(this.#all().map((run) => [run.job_id, run]))
    return [...this.picked].flatMap((id) => byId.get(id) ?? [])
  })

  get filtered(): boolean {
    return this.query.trim() !== '' || this.status !== 'all' || this.task !== 'all'
  }

  get full(): boolean {
    return this.compared.length >= MOST_COMPARED
  }

  showAll(): void {
    this.query = ''
    this.status = 'all'
    this.task = 'all'
  }

  /** A second press on the same heading turns the order round. Numbers and dates begin with the largest. */
  sortBy(key: SortKey): void {
    const ascending = this.sort.key === key ? !this.sort.ascending : key === 'name' || key === 'loss'
    this.sort = { key, ascending }
  }

  toggle(id: string): void {
    if (this.picked.delete(id) || this.full) return
    // A run that was deleted meanwhile gives its place away.
    const here = new Set(this.#all().map((run) => run.job_id))
    for (const other of this.picked) if (!here.has(other)) this.picked.delete(other)
    this.picked.add(id)
  }
}

/** The test loss measured last; without test rows a run has none. */
export function testLoss(run: Run): number | null {
  return run.metrics.eval_loss ?? null
}

/** Seconds from the first word about it to the last, pauses included; the time in the queue is not. */
export function duration(run: Run): number | null {
  return run.started_at === null || run.updated_at === null ? null : seconds(run.started_at, run.updated_at)
}

function searched(run: Run): string {
  return `${run.name} ${run.base_model} ${run.dataset} ${run.job_id} ${run.strategy}`.toLowerCase()
}

function newer(a: Run, b: Run): number {
  return a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : a.job_id < b.job_id ? 1 : -1
}

function compareBy(key: SortKey, a: Run, b: Run): number {
  switch (key) {
    case 'created':
      return -newer(a, b)
    case 'name':
      return a.name.localeCompare(b.name)
    case 'loss':
      return ordered(testLoss(a) ?? Number.POSITIVE_INFINITY, testLoss(b) ?? Number.POSITIVE_INFINITY)
    case 'steps':
      return ordered(a.step, b.step)
    case 'duration':
      return ordered(duration(a) ?? -1, duration(b) ?? -1)
  }
}

/** Without a subtraction, which makes no number of two infinities. */
function ordered(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0
}
