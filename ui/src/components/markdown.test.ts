import { describe, expect, it } from 'vitest'
import { Blocks, safeHref } from './markdown'

const LONG = `# One

Some *text* that goes
over two lines.

- a
- b

  more of b

- c

1. x
2. y

\`\`\`js
let a = 1

let b = 2
\`\`\`

| a | b |
|---|---|
| 1 | 2 |

> quoted
> twice

Setext
------

The end.`

describe('blocks', () => {
  it('stay the same objects while text is added behind them', () => {
    const blocks = new Blocks()
    const before = blocks.of('# One\n\nTwo\n\nThree\n\nFou')
    const after = blocks.of('# One\n\nTwo\n\nThree\n\nFour')
    expect(after.slice(0, 3).every((token, at) => token === before[at]), 'finished blocks need no drawing').toBe(true)
    expect(after[3]).not.toBe(before[3])
  })

  it.each([1, 3, 7])('of a text that grows by %i characters are those of the whole text', (by) => {
    const growing = new Blocks()
    for (let end = 0; end < LONG.length; end += by) {
      const part = LONG.slice(0, end)
      expect(growing.of(part).map(({ raw }) => raw), JSON.stringify(part.slice(-20))).toEqual(new Blocks().of(part).map(({ raw }) => raw))
    }
    expect(growing.of(LONG)).toEqual(new Blocks().of(LONG))
  })

  it('of another text are read from its beginning', () => {
    const blocks = new Blocks()
    blocks.of('One\n\nTwo\n\nThree')
    expect(blocks.of('Other').map(({ raw }) => raw)).toEqual(['Other'])
    expect(blocks.of('a\r\n\r\nb\r\n\r\nc').length).toBe(3)
    expect(blocks.of('a\r\n\r\nb\r\n\r\nc\r\n\r\nd').length, 'line ends of Windows').toBe(4)
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
