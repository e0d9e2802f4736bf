// How far a run is: its epochs, the time that is left, its best test loss.

/** Where epochs begin and how many the run takes. */
export interface Epochs {
  /** Steps after which another epoch begins. */
  notches: number[]
  /** The epoch under way, from 1. */
  current: number
  /** Epochs begun over the whole run. */
  count: number
}

/**
 * `epoch` is how many epochs are done after `step` steps; before the first step `planned` epochs are spread evenly. A
 * run that is bounded by max_steps can begin more or fewer epochs than its settings name.
 */
export function epochs(total: number, step: number, epoch: number | null, planned: number): Epochs {
  if (total <= 0) return { notches: [], current: 1, count: Math.max(1, planned) }
  const perEpoch = step > 0 && epoch !== null && epoch > 0 ? step / epoch : total / Math.max(1, planned)
  // Half a step of tolerance: step / epoch is not exact where the last batch of an epoch is short.
  const count = Math.max(1, Math.ceil((total - 0.5) / perEpoch))
  const notches: number[] = []
  for (let i = 1; i < count; i += 1) notches.push(Math.round(i * perEpoch))
  return { notches, current: Math.min(count, Math.floor(Math.max(0, step - 0.5) / perEpoch) + 1), count }
}

export interface Paced {
  step: number
  elapsed_ms: number
}

/** Seconds that are left, from the pace since `earlier`; null until there is a pace. */
export function secondsLeft(total: number, last: Paced | null, earlier: Paced | null): number | null {
  if (!last || last.step >= total) return null
  const from = earlier && earlier.step < last.step ? earlier : { step: 0, elapsed_ms: 0 }
  const steps = last.step - from.step
  if (steps <= 0) return null
  const perStep = (last.elapsed_ms - from.elapsed_ms) / steps / 1000
  return perStep > 0 ? perStep * (total - last.step) : null
}

export interface Evaluated {
  step: number
  metrics: Record<string, number>
}

/** The evaluation with the lowest test loss; the earlier of two that are equal. */
export function bestEval<E extends Evaluated>(evals: readonly E[]): E | null {
  return bestOf(evals, 'eval_loss', false)
}

/** The evaluation with the best value of a metric; the earlier of two that are equal. The base model's is none of the run. */
export function bestOf<E extends Evaluated>(evals: readonly E[], name: string, higher: boolean): E | null {
  let best: E | null = null
  for (const e of evals) {
    const value = e.metrics[name]
    if (e.step === 0 || value === undefined || !Number.isFinite(value)) continue
    if (best === null || (higher ? value > best.metrics[name]! : value < best.metrics[name]!)) best = e
  }
  return best
}
