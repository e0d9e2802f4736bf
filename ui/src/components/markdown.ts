// A model's text as tokens to be drawn: no HTML is ever made of it, and blocks that are finished stay the same objects.
import { Lexer, type Token, type Tokens } from 'marked'

export type { Token, Tokens }

/** The blocks of a text that may still grow. Of a longer text that begins the same, only its end is read again. */
export class Blocks {
  #text = ''
  #tokens: Token[] = []

  /** The text's blocks; those that did not change are the same objects as before, so that they need no drawing. */
  of(text: string): Token[] {
    const settled = text.startsWith(this.#text) ? this.#settled() : 0
    const kept = this.#tokens.slice(0, settled)
    const start = kept.reduce((length, { raw }) => length + raw.length, 0)
    const read = lex(text.slice(start)).map((token, at) => {
      const old = this.#tokens[settled + at]
      return old?.raw === token.raw && old.type === token.type ? old : token
    })
    this.#tokens = [...kept, ...read]
    const whole = this.#tokens.reduce((length, { raw }) => length + raw.length, 0)
    // Where tokens are not the text piece by piece (line ends that were normalized), all is read again next time.
    this.#text = whole === text.length ? text : '\0'
    return this.#tokens.filter(({ type }) => type !== 'space' && type !== 'def')
  }

  /** How many blocks more text can no longer change: all but the last two, as a list goes on behind an empty line. */
  #settled(): number {
    const real = this.#tokens.flatMap(({ type }, at) => (type === 'space' ? [] : [at]))
    return real.at(-2) ?? 0
  }
}

function lex(text: string): Token[] {
  return new Lexer({ gfm: true, breaks: true }).lex(text)
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
