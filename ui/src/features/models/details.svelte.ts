// All of one model of yours: its settings and metrics, what it was made from, and its run.
import { AppError, call } from '../../api/client'
import { ROUTES, type ModelDetails } from '../../api/generated'
import type { ModelsManifestOutput } from '../../api/generated'
import { RunLog, runs } from '../../state'

export class Details {
  readonly id: string
  model = $state.raw<ModelDetails | null>(null)
  manifest = $state.raw<ModelsManifestOutput | null>(null)
  /** The events of its run; null where the run was deleted. */
  log = $state.raw<RunLog | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)
  #left = false

  constructor(id: string) {
    this.id = id
    void this.load()
  }

  async load(): Promise<void> {
    this.loading = true
    this.error = null
    // What it was made from only adds to the page: without it, the rest is shown.
    const manifest = 'models_manifest' in ROUTES ? call('models_manifest', { model_id: this.id }) : Promise.resolve(null)
    const added = manifest.catch(() => null)
    try {
      this.model = await call('models_get', { model_id: this.id })
      this.manifest = await added
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.loading = false
    await runs.ensure()
    const run = runs.list.find(({ model_id }) => model_id === this.id)
    if (!run || this.#left) return
    this.log = new RunLog(run.job_id)
    this.log.start()
  }

  leave(): void {
    this.#left = true
    this.log?.stop()
  }
}
