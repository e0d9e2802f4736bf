// What evaluations measure, as every screen writes it.
import { decimal, percent, t, type Key } from '../i18n'

/** Scores of answers, of summaries, of questions and of pairs; what a model is judged by comes first. */
export const SCORES = ['rougeL', 'rouge1', 'rouge2', 'f1', 'exact_match', 'eval_reward', 'rewards/accuracies', 'rewards/margins'] as const
/** What is measured, in the order it is shown; others follow by name. */
const MEASURED: readonly string[] = [...SCORES, 'reward', 'kl', 'response_length', 'entropy', 'eval_loss', 'perplexity']

/** The names of all that was measured, in the order they are shown. */
export function measuredNames(all: readonly Readonly<Record<string, number>>[]): string[] {
  const found = new Set(all.flatMap((metrics) => Object.keys(metrics)))
  const known = MEASURED.filter((name) => found.has(name))
  return [...known, ...[...found].filter((name) => !MEASURED.includes(name)).sort()]
}

/** Those of the scores that were measured. */
export function scores(metrics: Readonly<Record<string, number>>): string[] {
  return SCORES.filter((name) => metrics[name] !== undefined)
}

/** Losses and perplexity are better when they are smaller. */
export function higherIsBetter(name: string): boolean {
  return (SCORES as readonly string[]).includes(name)
}

/** "ROUGE-L", "exact match"; what evaluations measure as steps do has the same name; its own name where the catalogue has none. */
export function metricName(name: string): string {
  for (const known of [name, name.replace(/^eval_/, '')]) {
    const key = `common.metric.${known.replaceAll('/', '_')}`
    const text = t(key as Key)
    if (text !== key) return text
  }
  return name.replaceAll('_', ' ')
}

/** A value as it was measured: exact match, F1 and the part of right choices in percent, ROUGE from 0 to 1, others as numbers. */
export function metricValue(name: string, value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (name === 'exact_match' || name === 'f1') return percent(value / 100, 1)
  if (name === 'rewards/accuracies' || name === 'reward_model/accuracy') return percent(value, 1)
  if (higherIsBetter(name)) return decimal(value, 3)
  return decimal(value, value !== 0 && Math.abs(value) < 0.0995 ? 4 : 2)
}
