// What the sample teaches, before anything is trained: a message that training never sees, the starter model's own answer
// to it now, and the answer that the sample's rows ask for. Nothing here is written down in advance.
import { call, stream } from '../../api/client'
import type { PreviewRow } from '../../api/generated'
import { STARTER } from '../../state/base-models.svelte'
import { SAMPLE, TRIAL } from './try-it.svelte'

/** Longer than any answer that the sample asks for. */
const MOST_TOKENS = 64

export interface Example {
  message: string
  /** What the rows teach to answer. */
  goal: string
}

export class Proof {
  example = $state.raw<Example | null>(null)
  /** What the starter model answers; null where it was not asked. */
  before = $state<string | null>(null)
  answering = $state(false)
  /** How long training takes on this machine, estimated; null until that is known. */
  seconds = $state<number | null>(null)
  steps = $state<number | null>(null)

  /** Gathers it piece by piece. What cannot be had stays out: the page says the same without it. */
  async load(signal: AbortSignal): Promise<void> {
    try {
      this.example = await heldOut(signal)
      if (this.example) await this.#ask(this.example.message, signal)
      const { time, workload } = await call('finetune_estimate', TRIAL, { signal })
      this.seconds = time?.seconds ?? null
      this.steps = workload?.steps ?? null
    } catch {
      // An error that matters comes again, with its fix, when training is started.
    }
  }

  async #ask(message: string, signal: AbortSignal): Promise<void> {
    const { model_id: loaded } = await call('playground_status', {}, { signal })
    // Another model in memory belongs to a chat that goes on.
    if (loaded !== null && loaded !== STARTER) return
    const messages = [{ role: 'user' as const, content: message }]
    const params = { temperature: 0, max_new_tokens: MOST_TOKENS }
    let text = ''
    this.answering = true
    try {
      await stream(
        'playground_stream',
        { model_id: STARTER, messages, params },
        (piece) => {
          text = piece.type === 'done' ? piece.text : text + piece.text
          this.before = text.trim()
        },
        { signal },
      )
      if (loaded === null && !signal.aborted) await call('playground_unload', {})
    } finally {
      this.answering = false
    }
  }
}

/** The first row of the sample's file to measure with. */
async function heldOut(signal: AbortSignal): Promise<Example | null> {
  const sample = (await call('datasets_samples', {}, { signal })).find(({ dataset }) => dataset === SAMPLE)
  if (!sample) return null
  const { task, heldout_path: dataset } = sample
  const { rows } = await call('datasets_preview', { dataset, task, model_name: STARTER, rows: 1 }, { signal })
  return rows[0] ? exampleOf(rows[0]) : null
}

/** Message and answer of a row in ChatML, the starter model's template: a turn is a role, a line end and what is said. */
export function exampleOf(row: PreviewRow): Example | null {
  const turns: string[] = ['']
  let goal = ''
  for (const { text, trained, special } of row.tokens) {
    if (special) turns.push('')
    else if (trained) goal += text
    else turns[turns.length - 1] += text
  }
  const message = turns.find((turn) => turn.startsWith('user\n'))?.slice('user\n'.length)
  return message && goal ? { message: message.trim(), goal: goal.trim() } : null
}
