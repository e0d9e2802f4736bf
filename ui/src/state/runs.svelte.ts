// All runs, the newest first.
import { call } from '../api/client'
import type { Run } from '../api/generated'
import { Collection } from './collection.svelte'

class Runs extends Collection<Run> {
  /** The run that computes now; there is at most one. */
  readonly active = $derived(this.list.find((run) => run.status === 'running'))

  /** How much of the active run is done, 0 to 1; null without one. */
  readonly fraction = $derived(
    this.active ? (this.active.total_steps ? this.active.step / this.active.total_steps : 0) : null,
  )

  constructor() {
    super(() => call('runs_list', {}), (run) => run.job_id)
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
