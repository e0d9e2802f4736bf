import { describe, expect, it } from 'vitest'
import type { GenerateStats } from '../../api/generated'
import { contextUsed, fromMessages, speed, toMessages, toRead, type KeptTurn } from './turns'

const stats: GenerateStats = { prompt_tokens: 10, tokens_generated: 30, prefill_ms: 500, generation_time_ms: 2500, finish: 'eos' }
const answer = (text: string, of: GenerateStats | null = null) => ({ text, stats: of })

const plain: KeptTurn = { question: 'One?', context: null, answers: [answer('1', stats)] }
const both: KeptTurn = { question: 'Two?', context: null, answers: [answer('base 2'), answer('tuned 2', stats)] }
const asked: KeptTurn = { question: 'Who?', context: 'Nils ordered.', answers: [answer('Nils', stats)] }
const silent: KeptTurn = { question: 'Three?', context: null, answers: [] }

describe('turns as messages', () => {
  it.each([
    ['plain turns', [plain, plain]],
    ['two answers side by side', [both, plain]],
    ['a question about a document', [asked, asked]],
    ['a question without an answer yet', [plain, silent]],
  ])('come back as they were: %s', (_, turns) => {
    expect(fromMessages(toMessages(turns)), 'what is kept is what is shown after a reload').toEqual(turns)
  })

  it('keep the side of an answer when only one side has answered', () => {
    const half: KeptTurn = { question: 'Q', context: null, answers: [answer(''), answer('tuned')] }
    expect(fromMessages(toMessages([half]))[0]?.answers.map(({ text }) => text), 'the base stays the first').toEqual(['', 'tuned'])
  })

  it('put the document before its question', () => {
    expect(toMessages([asked]).map(({ role }) => role)).toEqual(['system', 'user', 'assistant'])
  })
})

describe('what a model reads', () => {
  it('is its own side of the conversation', () => {
    const texts = (side: 'base' | 'chosen') => toRead([both, silent], side, '', false).map(({ content }) => content)
    expect(texts('base'), 'the base reads its own answers').toEqual(['Two?', 'base 2', 'Three?'])
    expect(texts('chosen'), 'the tuned model reads its own answers').toEqual(['Two?', 'tuned 2', 'Three?'])
  })

  it('leaves out turns without an answer, so that roles alternate', () => {
    expect(toRead([plain, silent, silent], 'chosen', '', false).map(({ role }) => role)).toEqual(['user', 'assistant', 'user'])
  })

  it('begins with the system prompt, unless that is blank', () => {
    expect(toRead([silent], 'chosen', ' Be brief. ', false)[0]).toEqual({ role: 'system', content: 'Be brief.' })
    expect(toRead([silent], 'chosen', '  ', false)).toHaveLength(1)
  })

  it('is one document at a time for a model trained so', () => {
    expect(toRead([asked, asked], 'chosen', 'x', true), 'neither earlier documents nor a system prompt').toEqual([
      { role: 'user', content: 'Who?' },
    ])
  })
})

describe('numbers under an answer', () => {
  it('count the speed of writing without the time to read', () => {
    expect(speed(stats), '30 tokens in 2 s').toBe(15)
    expect(speed({ ...stats, tokens_generated: 0 })).toBeNull()
    expect(speed({ ...stats, generation_time_ms: 500 }), 'too fast to be measured').toBeNull()
  })

  it('tell the fuller of two contexts', () => {
    expect(contextUsed([plain])).toBe(40)
    expect(contextUsed([plain, silent]), 'a turn that has not ended does not count yet').toBe(40)
    expect(contextUsed([silent])).toBeNull()
  })
})
