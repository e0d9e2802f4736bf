// What was typed and not sent yet, kept in the browser for each conversation.
import { read, write } from './kept'

export interface Draft {
  text: string
  context: string
}

const KEY = 'modelforge.chat.drafts'
const NEW = 'new'
const EMPTY: Draft = { text: '', context: '' }

export function draftOf(conversation: string | null): Draft {
  return read<Record<string, Draft>>(KEY, {})[conversation ?? NEW] ?? EMPTY
}

export function keepDraft(conversation: string | null, draft: Draft): void {
  const drafts = read<Record<string, Draft>>(KEY, {})
  if (draft.text === '' && draft.context === '') delete drafts[conversation ?? NEW]
  else drafts[conversation ?? NEW] = draft
  write(KEY, drafts)
}
