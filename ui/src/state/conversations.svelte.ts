// All conversations, the newest first, without their messages.
import { call } from '../api/client'
import type { ConversationRow } from '../api/generated'
import { Collection } from './collection.svelte'

export const conversations = new Collection<ConversationRow>(
  () => call('conversations_list', {}),
  (conversation) => conversation.id,
)
