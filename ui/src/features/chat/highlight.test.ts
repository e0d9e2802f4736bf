import { describe, expect, it } from 'vitest'
import { highlight, mark } from './highlight'

const hit = (document: string, answer: string) => {
  const parts = highlight(document, answer)
  if (!parts) return null
  expect(parts.map(({ text }) => text).join(''), 'nothing of the document is lost').toBe(document)
  return parts.map(({ text, hit }) => (hit ? `[${text}]` : text)).join('')
}

describe('an answer in its document', () => {
  it.each([
    ['Nils ordered blankets.', 'Nils', '[Nils] ordered blankets.'],
    ['The cart went to Art.', 'Art', 'The cart went to [Art].'],
    ['The cart went to art.', 'Art', 'The cart went to [art].'],
    ['He paid 44 dollars', ' 44 dollars\n', 'He paid [44 dollars]'],
    ['In Straßburg', 'Straßburg', 'In [Straßburg]'],
    ['handbook', 'book', 'hand[book]'],
    ['在北京見面', '北京', '在[北京]見面'],
  ])('of %j: %j', (document, answer, marked) => {
    expect(hit(document, answer)).toBe(marked)
  })

  it('is not marked where its words do not occur literally', () => {
    expect(highlight('Nils ordered.', 'Pia')).toBeNull()
    expect(highlight('Nils ordered.', '  '), 'an empty answer is nowhere').toBeNull()
  })

  it('is found at its own place though lower case may be longer', () => {
    expect(hit('İİ nils', 'nils')).toBe('İİ [nils]')
  })
})

describe('a place that a model tells', () => {
  it.each([
    ['a b a', 4, 5, 'a b [a]'],
    ['🚢🌊 ferry', 3, 8, '🚢🌊 [ferry]'],
    ['ferry', 0, 5, '[ferry]'],
  ])('of %j from %d to %d: %j', (document, start, end, marked) => {
    const parts = mark(document, start, end)
    expect(parts?.map(({ text, hit }) => (hit ? `[${text}]` : text)).join('')).toBe(marked)
  })

  it('is no place where there is no answer, or where it is beyond the document', () => {
    expect(mark('ferry', 0, 0)).toBeNull()
    expect(mark('ferry', 3, 9)).toBeNull()
  })
})
