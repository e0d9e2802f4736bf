// The learning rate that a run's settings plan for each step, as the engine computes it
// (src-tauri/crates/train/src/schedules).

import type { TrainingConfig } from '../../api/generated'

/** Where polynomial decay ends. */
const POLYNOMIAL_END = 1e-7

type Planned = Pick<TrainingConfig, 'learning_rate' | 'lr_scheduler_type' | 'warmup_ratio'>

/** The learning rate of `step`, which counts from 1, in a run of `total` steps. */
export function plannedRate(config: Planned, total: number, step: number): number {
  const peak = config.learning_rate
  const done = step - 1
  const warmup = Math.ceil(total * config.warmup_ratio)
  if (done < warmup) return (peak * done) / warmup
  const progress = Math.max(0, done - warmup) / Math.max(1, total - warmup)
  switch (config.lr_scheduler_type) {
    case 'linear':
      return peak * Math.max(0, 1 - progress)
    case 'cosine':
      return peak * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)))
    case 'constant':
      return peak
    case 'polynomial': {
      const end = Math.min(POLYNOMIAL_END, peak)
      return (peak - end) * Math.max(0, 1 - progress) + end
    }
  }
}

/** At most `points` steps of the plan from `from` to the end, both included. */
export function plannedRest(config: Planned, total: number, from: number, points = 200): { steps: number[]; rates: number[] } {
  const steps: number[] = []
  const first = Math.max(1, from)
  const stride = Math.max(1, Math.ceil((total - first) / (points - 1)))
  for (let step = first; step < total; step += stride) steps.push(step)
  if (first <= total) steps.push(total)
  return { steps, rates: steps.map((step) => plannedRate(config, total, step)) }
}
