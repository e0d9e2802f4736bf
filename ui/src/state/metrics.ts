// What evaluations measure, as every screen writes it.
import { decimal, percent, t, type Key } from '../i18n'

/** Scores of answers, of summaries and of questions; what a model is judged by comes first. */
export const SCORES = ['rougeL', 'rouge1', 'rouge2', 'f1', 'exact_match'] as const
/** All that an evaluation can measure, in the order it is shown. */
export const MEASURED: readonly string[] = [...SCORES, 'eval_loss', 'perplexity']

/** Those of the scores that were measured. */
export function scores(metrics: Readonly<Record<string, number>>): string[] {
  return SCORES.filter((name) => metrics[name] !== undefined)
}

/** Losses and perplexity are better when they are smaller. */
export function higherIsBetter(name: string): boolean {
  return (SCORES as readonly string[]).includes(name)
}

/** "ROUGE-L", "exact match"; its own name where the catalogue has none. */
export function metricName(name: string): string {
  const key = `common.metric.${name}`
  const text = t(key as Key)
  return text === key ? name.replaceAll('_', ' ') : text
}

/** A value as it was measured: exact match and F1 in percent, ROUGE from 0 to 1, others as numbers. */
export function metricValue(name: string, value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (name === 'exact_match' || name === 'f1') return percent(value / 100, 1)
  if (higherIsBetter(name)) return decimal(value, 3)
  return decimal(value, value !== 0 && Math.abs(value) < 0.0995 ? 4 : 2)
}
