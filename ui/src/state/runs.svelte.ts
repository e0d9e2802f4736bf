// All runs, the newest first.
import { call } from '../api/client'
import type { Run } from '../api/generated'
import { Collection } from './collection.svelte'

/** Whether the queue is held, asked for with the list. */
let held = $state(false)

async function list(): Promise<readonly Run[]> {
  const all = await call('runs_list', {})
  held = all.some((run) => run.status === 'queued') && (await call('queue_get', {})).held
  return all
}

class Runs extends Collection<Run> {
  /** The run that computes now; there is at most one. */
  readonly active = $derived(this.list.find((run) => run.status === 'running'))

  /** How much of the active run is done, 0 to 1; null without one. */
  readonly fraction = $derived(
    this.active ? (this.active.total_steps ? this.active.step / this.active.total_steps : 0) : null,
  )

  /** The runs that wait for their turn, the next one first. */
  readonly queued: readonly Run[] = $derived(
    this.list.filter((run) => run.status === 'queued').sort((a, b) => (a.place ?? 0) - (b.place ?? 0)),
  )

  /** Whether none of them begins by itself. */
  get held(): boolean {
    return held
  }

  constructor() {
    super(list, (run) => run.job_id)
  }

  /** Asks how far the active run is. The list is fetched again once it is over. */
  async follow(): Promise<void> {
    const before = this.active
    if (!before) return
    const { spec: _, ...now } = await call('runs_get', { job_id: before.job_id })
    if (now.status === 'running') this.replace(now)
    else await this.refresh()
  }
}

export const runs = new Runs()
