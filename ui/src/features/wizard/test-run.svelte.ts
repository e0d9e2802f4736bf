// The test run: two real steps of the run, measured and thrown away.

import { AppError, call } from '../../api/client'
import type { ProbeReport } from '../../api/generated'
import { keyOf } from './plan.svelte'
import type { Request } from './draft'

export class TestRun {
  running = $state(false)
  /** Seconds since it began. */
  elapsed = $state(0)
  error = $state.raw<AppError | null>(null)
  #report = $state.raw<ProbeReport | null>(null)
  #key = $state<string | null>(null)
  #asked = new AbortController()

  /** What was measured for this request; what was measured for another says nothing of it. */
  report(request: Request | null): ProbeReport | null {
    return request && this.#key === keyOf(request) ? this.#report : null
  }

  async start(request: Request): Promise<void> {
    this.#asked.abort()
    const { signal } = (this.#asked = new AbortController())
    const began = Date.now()
    this.running = true
    this.elapsed = 0
    this.error = null
    const clock = setInterval(() => (this.elapsed = Math.round((Date.now() - began) / 1000)), 500)
    try {
      const report = await call('finetune_dry_run', request, { signal })
      if (signal.aborted) return
      this.#report = report
      this.#key = keyOf(request)
    } catch (error) {
      if (!signal.aborted) this.error = AppError.from(error)
    } finally {
      clearInterval(clock)
      if (this.#asked.signal === signal) this.running = false
    }
  }

  cancel(): void {
    this.#asked.abort()
    this.running = false
  }

  forget(): void {
    this.cancel()
    this.#report = null
    this.#key = null
  }
}

/** Tokens computed in a second of the measured steps. */
export function speedOf(report: ProbeReport): number | null {
  const ms = report.steps.reduce((sum, step) => sum + step.step_ms, 0)
  const tokens = report.steps.reduce((sum, step) => sum + step.tokens, 0)
  return ms > 0 ? (tokens / ms) * 1000 : null
}
