// Where an answer stands in the document it was taken from.

export interface Part {
  readonly text: string
  readonly hit: boolean
}

/** The document in parts, the answer's first occurrence marked; null where these words do not occur in it. */
export function highlight(document: string, answer: string): Part[] | null {
  const wanted = answer.trim()
  if (wanted === '') return null
  const at = find(document, wanted)
  if (at < 0) return null
  return split(document, at, at + wanted.length)
}

/** The document in parts, the characters from `start` to `end` marked, as a model tells them: counted as Unicode has them. */
export function mark(document: string, start: number, end: number): Part[] | null {
  const characters = Array.from(document)
  if (start >= end || end > characters.length) return null
  const units = (count: number): number => characters.slice(0, count).join('').length
  return split(document, units(start), units(end))
}

function split(document: string, at: number, end: number): Part[] {
  const parts = [
    { text: document.slice(0, at), hit: false },
    { text: document.slice(at, end), hit: true },
    { text: document.slice(end), hit: false },
  ]
  return parts.filter(({ text }) => text !== '')
}

/** Whole words before parts of words, the same case before any case. */
function find(text: string, wanted: string): number {
  // Lower case can have another length (İ): then positions would not be the document's.
  const lower = text.toLowerCase()
  const anyCase = lower.length === text.length ? lower : text
  const low = anyCase === text ? wanted : wanted.toLowerCase()
  const tries = [whole(text, wanted), whole(anyCase, low), text.indexOf(wanted), anyCase.indexOf(low)]
  return tries.find((at) => at >= 0) ?? -1
}

function whole(text: string, wanted: string): number {
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
    if (!isLetter(text[at - 1]) && !isLetter(text[at + wanted.length])) return at
  }
  return -1
}

function isLetter(char: string | undefined): boolean {
  return char !== undefined && /[\p{L}\p{N}]/u.test(char)
}
