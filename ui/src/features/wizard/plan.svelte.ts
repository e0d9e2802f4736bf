// What the run will take, asked of the backend as the draft changes, and what would make it smaller.

import { AppError, call } from '../../api/client'
import type { Estimate, Fit } from '../../api/generated'
import type { Request, Values } from './draft'

/** A change that makes the run need less memory, and what it then needs. */
export interface Fix {
  id: 'nearest' | 'bf16' | 'batch' | 'checkpointing' | 'shorter' | 'all'
  patch: Values
  bytes: number
  fit: Fit
}

const TYPING_MS = 400
/** Rows are not cut below this. */
const SHORTEST = 64

export class Plan {
  estimate = $state.raw<Estimate | null>(null)
  busy = $state(false)
  error = $state.raw<AppError | null>(null)
  fixes = $state.raw<Fix[]>([])
  /** The request that `estimate` is for. */
  #key: string | null = null
  #asked = new AbortController()
  #timer: ReturnType<typeof setTimeout> | undefined

  /** Estimates once typing rests. */
  soon(request: Request | null): void {
    clearTimeout(this.#timer)
    if (request && keyOf(request) !== this.#key) this.busy = true
    this.#timer = setTimeout(() => void this.refresh(request), TYPING_MS)
  }

  async refresh(request: Request | null): Promise<void> {
    clearTimeout(this.#timer)
    const key = request && keyOf(request)
    if (key !== null && key === this.#key && this.estimate) {
      this.busy = false
      return
    }
    this.#asked.abort()
    const { signal } = (this.#asked = new AbortController())
    if (!request) {
      this.forget()
      return
    }
    this.busy = true
    try {
      const estimate = await call('finetune_estimate', request, { signal })
      if (signal.aborted) return
      this.estimate = estimate
      this.error = null
      this.#key = key
      this.fixes = []
      if (estimate.nearest) {
        const { changes, memory_bytes, fit } = estimate.nearest
        this.fixes = [{ id: 'nearest', patch: changes as Values, bytes: memory_bytes, fit }]
      } else if (estimate.fit !== 'fits') {
        await this.#findFixes(request, estimate, signal)
      }
    } catch (error) {
      if (signal.aborted) return
      this.estimate = null
      this.#key = null
      this.fixes = []
      this.error = AppError.from(error)
    } finally {
      if (!signal.aborted) this.busy = false
    }
  }

  forget(): void {
    this.#asked.abort()
    clearTimeout(this.#timer)
    this.estimate = null
    this.error = null
    this.fixes = []
    this.#key = null
    this.busy = false
  }

  async #findFixes(request: Request, now: Estimate, signal: AbortSignal): Promise<void> {
    const single = patches(request, now)
    const all = Object.assign({}, ...single.map((one) => one.patch)) as Values
    const asked = single.length > 1 ? [...single, { id: 'all' as const, patch: all }] : single
    const answers = await Promise.all(
      asked.map(async ({ id, patch }): Promise<Fix | null> => {
        try {
          const { memory, fit } = await call('finetune_estimate', { ...request, ...patch }, { signal })
          return memory.total < now.memory.total ? { id, patch, bytes: memory.total, fit } : null
        } catch {
          return null
        }
      }),
    )
    if (signal.aborted) return
    const found = answers.filter((fix) => fix !== null)
    // All together only where nothing alone is enough.
    const enough = found.some((fix) => fix.id !== 'all' && fix.fit === 'fits')
    this.fixes = enough ? found.filter((fix) => fix.fit === 'fits' && fix.id !== 'all') : found
  }
}

/** The name changes nothing of what a run takes. */
export function keyOf({ name: _, ...request }: Request): string {
  return JSON.stringify(request)
}

/** What can be changed, the changes that cost the least quality first. */
type Single = { id: Exclude<Fix['id'], 'all' | 'nearest'>; patch: Values }

function patches(request: Request, now: Estimate): Single[] {
  const found: Single[] = []
  const batch = request.per_device_train_batch_size ?? 1
  if (!request.bf16 && !request.fp16) found.push({ id: 'bf16', patch: { bf16: true } })
  if (batch > 1) {
    const gradient_accumulation_steps = (request.gradient_accumulation_steps ?? 4) * batch
    found.push({ id: 'batch', patch: { per_device_train_batch_size: 1, gradient_accumulation_steps } })
  }
  if (request.gradient_checkpointing === false) found.push({ id: 'checkpointing', patch: { gradient_checkpointing: true } })
  const half = Math.floor(now.longest_row / 2)
  if (half >= SHORTEST) found.push({ id: 'shorter', patch: { max_seq_length: half } })
  return found
}
