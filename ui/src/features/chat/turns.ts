// How a conversation's turns are kept as plain messages, and what of them a model is given to read.
import type { ConversationMessage, GenerateStats, Message } from '../../api/generated'

/** Which model answers: the one that was chosen, or the base it was tuned from. */
export type Side = 'base' | 'chosen'

export interface KeptAnswer {
  readonly text: string
  readonly stats: GenerateStats | null
}

export interface KeptTurn {
  readonly question: string
  /** The document that a question is about, for a model that finds answers in one. */
  readonly context: string | null
  /** None, the chosen model's, or the base's and the chosen model's. */
  readonly answers: readonly KeptAnswer[]
}

/**
 * Turns as messages. A document stands as a system message before its question; of two answers side by side the base's
 * comes first, an empty one where a side has not answered.
 */
export function toMessages(turns: readonly KeptTurn[]): ConversationMessage[] {
  const messages: ConversationMessage[] = []
  for (const { question, context, answers } of turns) {
    if (context !== null) messages.push({ role: 'system', content: context })
    messages.push({ role: 'user', content: question })
    if (answers.every(({ text }) => text === '')) continue
    for (const { text, stats } of answers) messages.push({ role: 'assistant', content: text, stats })
  }
  return messages
}

/** Messages as the turns that [`toMessages`] made them from. Messages out of that order are left out. */
export function fromMessages(messages: readonly ConversationMessage[]): KeptTurn[] {
  const turns: { question: string; context: string | null; answers: KeptAnswer[] }[] = []
  let context: string | null = null
  for (const { role, content, stats } of messages) {
    const last = turns.at(-1)
    if (role === 'system') context = content
    else if (role === 'user') {
      turns.push({ question: content, context, answers: [] })
      context = null
    } else if (last && last.answers.length < 2) last.answers.push({ text: content, stats: stats ?? null })
  }
  return turns
}

/** What a turn holds of a side: its own answer, the other's where that side was silent. */
export function answerOf(turn: KeptTurn, side: Side): KeptAnswer | undefined {
  const [first, second] = turn.answers
  const own = side === 'chosen' ? (second ?? first) : first
  return own?.text ? own : turn.answers.find(({ text }) => text !== '')
}

/**
 * What a side reads to answer the last turn. A model that works on documents was trained on one at a time, so it gets
 * only the last; turns without an answer are left out, as a model expects question and answer to alternate.
 */
export function toRead(turns: readonly KeptTurn[], side: Side, system: string, onDocuments: boolean): Message[] {
  const last = turns.at(-1)
  if (!last) return []
  const question: Message = { role: 'user', content: last.question }
  if (onDocuments) return [question]
  const before = turns.slice(0, -1).flatMap((turn): Message[] => {
    const answer = answerOf(turn, side)
    if (!answer) return []
    return [
      { role: 'user', content: turn.question },
      { role: 'assistant', content: answer.text },
    ]
  })
  const instructions: Message[] = system.trim() ? [{ role: 'system', content: system.trim() }] : []
  return [...instructions, ...before, question]
}

/** Tokens written in a second, the time to read the question left out; null where nothing was measured. */
export function speed({ tokens_generated, generation_time_ms, prefill_ms }: GenerateStats): number | null {
  const ms = generation_time_ms - prefill_ms
  return tokens_generated > 0 && ms > 0 ? (1000 * tokens_generated) / ms : null
}

/** Tokens of the context that the last answer left taken; null before the first. */
export function contextUsed(turns: readonly KeptTurn[]): number | null {
  for (const turn of [...turns].reverse()) {
    const used = turn.answers.flatMap(({ stats }) => (stats ? [stats.prompt_tokens + stats.tokens_generated] : []))
    if (used.length > 0) return Math.max(...used)
  }
  return null
}
