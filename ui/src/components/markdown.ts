// A model's text as tokens to be drawn: no HTML is ever made of it, and blocks that are finished stay the same objects.
import { Lexer, type Token, type Tokens } from 'marked'

export type { Token, Tokens }

/** Blocks of a text. Blocks that `before` has with the same source are taken from there, so that they need no drawing. */
export function blocks(text: string, before: readonly Token[] = []): Token[] {
  const tokens = new Lexer({ gfm: true, breaks: true }).lex(text).filter(({ type }) => type !== 'space' && type !== 'def')
  return tokens.map((token, at) => {
    const old = before[at]
    return old?.raw === token.raw && old.type === token.type ? old : token
  })
}

/** The address of a link that may be opened; null for one that is not of the web or of mail. */
export function safeHref(href: string): string | null {
  try {
    const url = new URL(href)
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null
  } catch {
    return null
  }
}

/** The tokens inside of a token. */
export function inner(token: Token): Token[] {
  return 'tokens' in token && token.tokens ? token.tokens : []
}

/** Text as it was written: the lexer escapes what would matter in HTML. */
export function plain(token: Token): string {
  const text = 'text' in token ? String(token.text) : token.raw
  return text.replace(/&(?:amp|lt|gt|quot|#39);/g, (entity) => ENTITIES[entity] ?? entity)
}

const ENTITIES: Record<string, string> = { '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&#39;': "'" }
