// Keeps the stores true: the backend tells what changed. While it does not, they are fetched again after what was done here
// and when the window is looked at.
import { AppError, onDone, stream } from '../api/client'
import type { Change, Topic } from '../api/generated'
import { Backoff } from './backoff'
import { conversations } from './conversations.svelte'
import { datasets } from './datasets.svelte'
import { models } from './models.svelte'
import { runs } from './runs.svelte'
import { settings } from './settings.svelte'

interface Store {
  readonly wanted: boolean
  refresh(): Promise<void>
}

const STORES: Partial<Record<Topic, Store>> = { runs, models, datasets, conversations, settings }

/** Operations that change what a store holds. */
const CHANGED_BY: Record<string, Topic[]> = {
  finetune_start_training: ['runs', 'datasets'],
  queue_add: ['runs', 'datasets'],
  queue_place: ['runs'],
  queue_remove: ['runs'],
  queue_hold: ['runs'],
  runs_pause: ['runs'],
  runs_resume: ['runs'],
  runs_stop: ['runs', 'models'],
  runs_delete: ['runs'],
  models_delete: ['models'],
  conversations_put: ['conversations'],
  conversations_delete: ['conversations'],
  datasets_check: ['datasets'],
  hub_set_token: ['hub'],
  hub_clear_token: ['hub'],
}

const FOLLOW_MS = 2000

type Listener = (change: Change) => void

class Changes {
  /** Whether the backend tells changes now. */
  live = $state(false)

  #listeners = new Set<Listener>()

  /** Tells of changes that no store here holds, such as those of the Hub account; returns what ends that. */
  on(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Starts to follow; returns what ends that. */
  start(): () => void {
    const ends = new AbortController()
    const { signal } = ends
    void this.#listen(signal)
    const stop = onDone((op) => {
      if (!this.live) for (const topic of CHANGED_BY[op] ?? []) this.#tell({ topic, id: null })
    })
    signal.addEventListener('abort', stop)
    const look = (): void => {
      if (!document.hidden && !this.live) this.#all()
    }
    document.addEventListener('visibilitychange', look, { signal })
    window.addEventListener('focus', look, { signal })
    const timer = setInterval(() => {
      if (!runs.active || document.hidden) return
      runs.follow().then(
        // A run that is over has made a model.
        () => runs.active || this.live || this.#tell({ topic: 'models', id: null }),
        // A failure here is told by the next fetch of the list.
        () => {},
      )
    }, FOLLOW_MS)
    signal.addEventListener('abort', () => {
      clearInterval(timer)
      this.live = false
    })
    return () => ends.abort()
  }

  async #listen(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff()
    while (!signal.aborted) {
      // What changed while nobody listened is not told later.
      const opened = (): void => {
        this.live = true
        backoff.reset()
      }
      try {
        await stream('app_changes', {}, (change) => (opened(), this.#tell(change)), { signal })
      } catch (thrown) {
        if (AppError.from(thrown).status === 404) return
      }
      this.live = false
      await backoff.wait(signal)
      if (!signal.aborted) this.#all()
    }
  }

  #tell(change: Change): void {
    const store = STORES[change.topic]
    if (store?.wanted) void store.refresh()
    for (const listener of this.#listeners) listener(change)
  }

  #all(): void {
    for (const store of Object.values(STORES)) if (store.wanted) void store.refresh()
  }
}

export const changes = new Changes()
