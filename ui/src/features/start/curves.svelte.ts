// The loss curves beside the recent runs, fetched one after the other and kept while Start is open.
import { SvelteMap } from 'svelte/reactivity'
import { call } from '../../api/client'
import type { Run } from '../../api/generated'
import { curve } from './recent'

export class Curves {
  readonly #byRun = new SvelteMap<string, number[]>()
  readonly #asked = new Set<string>()

  /** The losses of a run; undefined where there are none to draw. */
  of(run: Run): number[] | undefined {
    return this.#byRun.get(key(run))
  }

  async load(runs: readonly Run[], signal: AbortSignal): Promise<void> {
    for (const run of runs) {
      if (run.step < 2 || this.#asked.has(key(run)) || signal.aborted) continue
      this.#asked.add(key(run))
      try {
        const { steps } = await call('runs_curve', { job_id: run.job_id }, { signal })
        this.#byRun.set(key(run), curve(steps.columns.loss?.mean ?? []))
      } catch {
        // The row says how the run came out without its curve; the next visit asks again.
        this.#asked.delete(key(run))
      }
    }
  }
}

/** A run that went on has another curve. */
function key(run: Run): string {
  return `${run.job_id} ${run.step}`
}
