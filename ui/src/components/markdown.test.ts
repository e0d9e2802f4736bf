import { describe, expect, it } from 'vitest'
import { blocks, safeHref } from './markdown'

describe('blocks', () => {
  it('stay the same objects while text is added behind them', () => {
    const before = blocks('# One\n\nTwo\n\nThr')
    const after = blocks('# One\n\nTwo\n\nThree', before)
    expect(after[0], 'a finished block needs no drawing').toBe(before[0])
    expect(after[1]).toBe(before[1])
    expect(after[2]).not.toBe(before[2])
  })
})

describe('links', () => {
  it.each(['javascript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', 'tauri://x', '/relative', ''])('of %j are not opened', (href) => {
    expect(safeHref(href)).toBeNull()
  })
  it('of the web and of mail are', () => {
    expect(safeHref('https://example.org/a b')).toBe('https://example.org/a%20b')
    expect(safeHref('mailto:a@example.org')).toBe('mailto:a@example.org')
  })
})
