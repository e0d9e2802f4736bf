import { describe, expect, it } from 'vitest'
import { byName, filtered, grouped, sorted, type Entry, type Row } from './entries'
import { GROUP_HEIGHT, ROW_HEIGHT, tops, windowOf } from './window'

const entry = (id: string, more: Partial<Entry> = {}): Entry => ({
  id, title: id, yours: true, base: 'modelforge/starter', tasks: ['text-generation'], bytes: 1, made: '2026-01-01T00:00:00Z',
  strategy: 'sft', known: null, path: null, ...more,
})
const ids = (entries: Entry[]) => entries.map(({ id }) => id)

describe('the list', () => {
  const entries = byName([
    entry('v2', { bytes: 20, made: '2026-01-02T00:00:00Z' }),
    entry('v10', { bytes: 3, made: '2026-01-03T00:00:00Z', tasks: ['summarization'] }),
    entry('base', { yours: false, base: null, made: null, bytes: null, tasks: ['text-generation', 'summarization'] }),
  ])

  it('sorts numbers in names as numbers', () => {
    expect(ids(sorted(entries, { key: 'title', down: false }))).toEqual(['base', 'v2', 'v10'])
  })

  it('puts what lacks the value last, either way', () => {
    expect(ids(sorted(entries, { key: 'bytes', down: false }))).toEqual(['v10', 'v2', 'base'])
    expect(ids(sorted(entries, { key: 'bytes', down: true }))).toEqual(['v2', 'v10', 'base'])
    expect(ids(sorted(entries, { key: 'made', down: true }))).toEqual(['v10', 'v2', 'base'])
  })

  it('finds every word, in the base model’s name too', () => {
    expect(ids(filtered(entries, { text: 'V1 starter', task: null }))).toEqual(['v10'])
    expect(ids(filtered(entries, { text: '', task: 'summarization' }))).toEqual(['base', 'v10'])
  })

  it('has a heading only above groups with entries', () => {
    expect(grouped(entries).map((row) => (row.type === 'group' ? `#${row.entries.length}` : row.entry.id))).toEqual([
      '#2', 'v2', 'v10', '#1', 'base',
    ])
    expect(grouped([])).toEqual([])
  })
})

describe('a long list', () => {
  const rows: Row[] = grouped(Array.from({ length: 10_000 }, (_, at) => entry(`m${at}`)))
  const all = tops(rows)
  const height = GROUP_HEIGHT + 10_000 * ROW_HEIGHT

  it.each([0, 17, 44_000, 250_000, height - 700, height + 5000])('draws only what is around the screen at %i', (scrolled) => {
    const { first, end, above, below } = windowOf(all, scrolled, 700)
    expect(end - first, 'rows drawn').toBeLessThan(40)
    const drawn = (all[end] ?? 0) - (all[first] ?? 0)
    expect(above + drawn + below, 'the scroll bar tells the whole length').toBe(height)
    expect(above, 'no gap at the top').toBeLessThanOrEqual(Math.min(scrolled, height))
    expect(above + drawn, 'no gap at the bottom').toBeGreaterThanOrEqual(Math.min(scrolled + 700, height))
  })

  it('draws nothing of an empty list', () => {
    expect(windowOf(tops([]), 0, 700)).toEqual({ first: 0, end: 0, above: 0, below: 0 })
  })
})
