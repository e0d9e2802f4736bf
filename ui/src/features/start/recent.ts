// What Start says of a run in one line: what it learns from, how it came out, whether it can go on, its curve.
import type { Run } from '../../api/generated'
import { count, decimal, t } from '../../i18n'
import { metricName, metricValue, scores } from '../../state/metrics'

/** How many runs and models are recent. */
export const RECENT = 3

export type Outcome = { kind?: 'warn' | 'bad'; text: string; why?: string }

/** The runs that are over, the newest first. */
export function recentRuns(runs: readonly Run[]): Run[] {
  return runs.filter((run) => run.status !== 'running' && run.status !== 'queued').slice(0, RECENT)
}

export function outcome(run: Run): Outcome {
  switch (run.status) {
    case 'failed':
      return { kind: 'bad', text: t('start.runs.failed'), why: run.error }
    case 'stopped':
    case 'interrupted':
      if (run.step === 0 || run.total_steps === null) return { kind: 'warn', text: t('start.runs.early') }
      return {
        kind: 'warn',
        text: t(`start.runs.${run.status}`, { step: count(run.step), total: count(run.total_steps) }),
      }
    default:
      return { text: measured(run.metrics) }
  }
}

function measured(metrics: Record<string, number>): string {
  const { eval_loss, perplexity, final_loss } = metrics
  const [score] = scores(metrics)
  if (score !== undefined && eval_loss !== undefined) {
    return t('start.runs.score', { name: metricName(score), value: metricValue(score, metrics[score]!), loss: loss(eval_loss) })
  }
  if (eval_loss !== undefined && perplexity !== undefined) {
    return t('start.runs.perplexity', { loss: loss(eval_loss), value: loss(perplexity) })
  }
  if (eval_loss !== undefined) return t('start.runs.test', { value: loss(eval_loss) })
  if (final_loss !== undefined) return t('start.runs.final', { value: loss(final_loss) })
  return t('start.runs.done')
}

/** "2.36", "0.0024": two digits that say something. */
export function loss(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (value === 0 || Math.abs(value) >= 0.095) return decimal(value, 2)
  return decimal(value, Math.min(6, 1 - Math.floor(Math.log10(Math.abs(value)))))
}

/** A paused or interrupted run goes on at its last checkpoint. */
export function canResume(run: Run): boolean {
  return run.status === 'stopped' || run.status === 'interrupted'
}

/** "order-slips", "tickets.jsonl": the end of a dataset's name. */
export function datasetName(dataset: string): string {
  return dataset.startsWith('sample:') ? dataset.slice('sample:'.length) : (dataset.split(/[\\/]/).at(-1) ?? dataset)
}

/** The seconds that are left at the pace of the run so far. */
export function secondsLeft(last: { step: number; total_steps: number; elapsed_ms: number } | null): number | null {
  if (!last || last.step <= 0 || last.elapsed_ms <= 0) return null
  return ((last.elapsed_ms / last.step) * (last.total_steps - last.step)) / 1000
}

/** Losses in order, at most `most` of them: each stands for as many and is their mean. */
export function curve(means: readonly (number | null)[], most = 48): number[] {
  const values = means.filter((value) => value !== null)
  if (values.length <= most) return values
  return Array.from({ length: most }, (_, at) => {
    const part = values.slice(Math.floor((at * values.length) / most), Math.floor(((at + 1) * values.length) / most))
    return part.reduce((sum, value) => sum + value, 0) / part.length
  })
}
