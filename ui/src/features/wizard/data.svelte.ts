// The choice of a dataset: what a whole pass over it found, and its rows as the chosen model sees them.

import { AppError, call, isAbort } from '../../api/client'
import type { Dataset, DatasetsCheckOutput, PreviewRow, SampleDataset, Task } from '../../api/generated'
import type { OnProgress, PickedDataset } from '../../platform'
import { datasets } from '../../state'
import type { Draft, Request } from './draft'

const STARTER = 'modelforge/starter'
/** The most rows that the backend shows at once. */
const MEASURED_ROWS = 100
/** Rows that can be paged through; the others are measured only. */
const SHOWN_ROWS = 20
/** The part of the rows to test on where nothing is chosen, as the backend takes it. */
export const DEFAULT_SPLIT = 0.2

/** Token lengths of the first rows. */
export interface Lengths {
  /** Tokens of each measured row before anything is cut. */
  rows: number[]
  /** Measured rows that are cut. */
  cut: number
  limit: number
}

export class DataChoice {
  samples = $state.raw<SampleDataset[]>([])
  report = $state.raw<DatasetsCheckOutput | null>(null)
  checking = $state(false)
  error = $state.raw<AppError | null>(null)
  /** The task that the rows fit where they do not fit the chosen one. */
  fits = $state<Task | null>(null)
  sending = $state.raw<{ name: string; done: number; total: number } | null>(null)
  rows = $state.raw<PreviewRow[]>([])
  lengths = $state.raw<Lengths | null>(null)
  /** Whether the preview is the starter model's, because the chosen model is not on this computer. */
  borrowed = $state(false)
  previewing = $state(false)
  previewError = $state.raw<AppError | null>(null)
  /** Tokens of all rows together and of the longest, after cutting. */
  tokens = $state.raw<{ all: number; longest: number } | null>(null)
  readonly #draft: () => Draft
  readonly #change: (patch: Partial<Draft>) => void
  #checked = new AbortController()
  #previewed = new AbortController()

  constructor(draft: () => Draft, change: (patch: Partial<Draft>) => void) {
    this.#draft = draft
    this.#change = change
  }

  /** The datasets to offer; without them one can still pick a file. */
  async load(): Promise<void> {
    void datasets.ensure()
    try {
      this.samples = await call('datasets_samples', {})
    } catch {
      this.samples = []
    }
  }

  /** Files that were used before and are still there. */
  get recent(): Dataset[] {
    const files = datasets.list.filter((one) => one.exists && !one.name.startsWith('sample:'))
    // A file that was checked for several tasks is listed once for each, the newest first.
    return files.filter((one, i) => files.findIndex((other) => other.name === one.name) === i)
  }

  get skips(): boolean {
    return this.#draft().values.skip_bad_rows === true
  }

  get split(): number {
    return this.#draft().values.eval_split ?? DEFAULT_SPLIT
  }

  /** Whether the model is tested on the rows that the sample brings for that. */
  get own(): boolean {
    const { dataset, values } = this.#draft()
    return dataset !== null && values.eval_dataset === dataset
  }

  /** Rows to learn from and to test with, rounded as the backend does. Null for `test` where another file holds them. */
  get parts(): { train: number; test: number | null } {
    const usable = this.report?.usable_rows ?? 0
    if (this.#draft().values.eval_dataset) return { train: usable, test: null }
    const test = this.split > 0 && usable > 1 ? Math.min(Math.max(Math.round(usable * this.split), 1), usable - 1) : 0
    return { train: usable - test, test }
  }

  async choose(dataset: string): Promise<void> {
    const { skip_bad_rows: _, eval_dataset: __, ...values } = this.#draft().values
    // A sample comes with rows to test on.
    if (dataset.startsWith('sample:')) Object.assign(values, { eval_dataset: dataset })
    this.#change({ dataset, values })
    await this.check()
  }

  clear(): void {
    this.#checked.abort()
    const { skip_bad_rows: _, eval_dataset: __, ...values } = this.#draft().values
    this.#change({ dataset: null, values })
    Object.assign(this, { report: null, error: null, fits: null, checking: false, rows: [], lengths: null, tokens: null })
    void this.load()
  }

  /** Takes a file that the host brings to where the backend can read it. */
  async take(name: string, bring: (onProgress: OnProgress) => Promise<PickedDataset | null>): Promise<void> {
    this.error = null
    try {
      const picked = await bring((done, total) => (this.sending = { name, done, total }))
      if (picked) await this.choose(picked.dataset)
    } catch (error) {
      if (!isAbort(error)) this.error = AppError.from(error)
    } finally {
      this.sending = null
    }
  }

  async check(): Promise<void> {
    this.#checked.abort()
    const { signal } = (this.#checked = new AbortController())
    const { dataset, task } = this.#draft()
    Object.assign(this, { report: null, error: null, fits: null, rows: [], lengths: null, tokens: null })
    if (!dataset) return
    this.checking = true
    try {
      this.report = await call('datasets_check', { dataset, task }, { signal })
    } catch (error) {
      if (signal.aborted) return
      this.error = AppError.from(error)
      this.fits = task && (await otherTask(dataset, task, signal))
    } finally {
      if (!signal.aborted) this.checking = false
    }
  }

  /** Shows the rows as the model of `request` sees them; as the starter model does where that one is not here. */
  async preview(request: Request, limit: number): Promise<void> {
    this.#previewed.abort()
    const { signal } = (this.#previewed = new AbortController())
    this.previewing = true
    this.previewError = null
    const ask = (model_name: string) =>
      call(
        'datasets_preview',
        { dataset: request.dataset, task: request.task, model_name, rows: MEASURED_ROWS, max_seq_length: limit },
        { signal },
      )
    try {
      let borrowed = false
      const { rows } = await ask(request.model_name).catch((error: unknown) => {
        if (!(error instanceof AppError) || error.status !== 403) throw error
        borrowed = true
        return ask(STARTER)
      })
      this.borrowed = borrowed
      this.rows = rows.slice(0, SHOWN_ROWS)
      this.lengths = borrowed ? null : lengthsOf(rows, limit)
      this.tokens = borrowed ? null : await tokensOf(request, signal)
    } catch (error) {
      if (signal.aborted) return
      this.rows = []
      this.previewError = AppError.from(error)
    } finally {
      if (!signal.aborted) this.previewing = false
    }
  }
}

function lengthsOf(rows: PreviewRow[], limit: number): Lengths {
  return {
    rows: rows.map((row) => row.tokens.length + row.cut_tokens),
    cut: rows.filter((row) => row.cut_tokens > 0).length,
    limit,
  }
}

/** Counts every row once: one pass over all of them, none kept aside. */
async function tokensOf(request: Request, signal: AbortSignal): Promise<{ all: number; longest: number } | null> {
  const once: Request = { ...request, num_train_epochs: 1, max_steps: -1, eval_split: 0, eval_dataset: null, skip_bad_rows: true }
  try {
    const { workload, longest_row } = await call('finetune_estimate', once, { signal })
    return workload && { all: workload.tokens, longest: longest_row }
  } catch {
    // What is wrong with the settings is told where they are entered.
    return null
  }
}

async function otherTask(dataset: string, task: Task, signal: AbortSignal): Promise<Task | null> {
  try {
    const { task: fits } = await call('datasets_check', { dataset, task: null, errors: 0 }, { signal })
    return fits === task ? null : fits
  } catch {
    return null
  }
}
