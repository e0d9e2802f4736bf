import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { t, type Key } from './catalogue.svelte'
import { bytes, clock, count, duration, params, percent, small, when } from './format'
import { LANGUAGES, closest, flatten, language, type Language } from './language.svelte'

const SOURCES = 'src'
const FEATURES = ['chat', 'common', 'models', 'runs', 'settings', 'start', 'wizard']
const PLURAL = /_(zero|one|two|few|many|other)$/

function texts(code: string): Record<string, string> {
  return Object.assign(
    {},
    ...FEATURES.map((feature) => {
      const file = join(SOURCES, 'i18n', code, `${feature}.json`)
      return flatten(JSON.parse(readFileSync(file, 'utf8')) as Parameters<typeof flatten>[0], feature)
    }),
  ) as Record<string, string>
}

const english = texts('en')
const stem = (key: string): string => key.replace(PLURAL, '')
const holes = (text: string): string[] => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort()

function* sources(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* sources(path)
    else if (/\.(svelte|ts)$/.test(entry.name) && !entry.name.endsWith('.test.ts')) yield readFileSync(path, 'utf8')
  }
}

/** What the sources name: whole keys, and keys with parts that are only known when the app runs. */
function used(): { keys: Set<string>; patterns: RegExp[] } {
  const prefix = `(?:${FEATURES.join('|')})\\.`
  const whole = new RegExp(`['"\`](${prefix}[\\w.-]+)['"\`]`, 'g')
  const partial = new RegExp(`\`(${prefix}[^\`]*\\$\\{[^\`]*)\``, 'g')
  const keys = new Set<string>()
  const patterns = new Map<string, RegExp>()
  for (const source of sources(SOURCES)) {
    for (const [, key] of source.matchAll(whole)) keys.add(key!)
    for (const [, key] of source.matchAll(partial)) {
      const parts = key!.split(/\$\{[^}]*\}/).map((part) => part.replace(/[.*+?^$()|[\]\\]/g, '\\$&'))
      patterns.set(key!, new RegExp(`^${parts.join('[\\w.-]+')}$`))
    }
  }
  return { keys, patterns: [...patterns.values()] }
}

describe('the catalogue', () => {
  it('has no English text that nothing shows', () => {
    const { keys, patterns } = used()
    const unused = Object.keys(english)
      .map(stem)
      .filter((key) => !keys.has(key) && !patterns.some((pattern) => pattern.test(key)))
    expect([...new Set(unused)]).toEqual([])
  })

  it('has a text for every key that the sources name', () => {
    const known = new Set(Object.keys(english).map(stem))
    const inside = [...known].flatMap((key) => key.split('.').map((_, at, parts) => parts.slice(0, at).join('.')))
    const missing = [...used().keys].filter((key) => !known.has(key) && !inside.includes(key))
    expect(missing).toEqual([])
  })

  it.each(Object.keys(LANGUAGES).filter((code) => code !== 'en'))('is whole in %s', (code) => {
    const own = texts(code)
    const forms = new Intl.PluralRules(code).resolvedOptions().pluralCategories
    const wanted = new Set(
      Object.keys(english).flatMap((key) =>
        PLURAL.test(key) ? forms.filter((form) => form === 'other' || form === 'one').map((form) => `${stem(key)}_${form}`) : [key],
      ),
    )
    const missing = [...wanted].filter((key) => !(key in own) && !(PLURAL.test(key) && `${stem(key)}_other` in own))
    expect(missing, 'texts that only English has').toEqual([])
    const stems = new Set(Object.keys(english).map(stem))
    expect(Object.keys(own).filter((key) => !stems.has(stem(key))), 'texts that English has not').toEqual([])
    const mismatched = Object.entries(own).filter(([key, text]) => {
      const source = english[key] ?? english[`${stem(key)}_other`] ?? ''
      // A form for one may leave out the number.
      const allowed = holes(source)
      return /_(one|zero|two)$/.test(key)
        ? holes(text).some((hole) => !allowed.includes(hole))
        : holes(text).join() !== allowed.join()
    })
    expect(mismatched, 'a text has the same places to fill in as the English one').toEqual([])
    expect(Object.entries(own).filter(([, text]) => text.trim() === ''), 'no text is empty').toEqual([])
  })
})

describe('texts and numbers', () => {
  afterEach(() => language.choose('en'))

  it('fills in values as the language writes them', () => {
    expect(t('common.chart.step', { n: 1930 })).toBe('Step 1,930')
    expect(t('common.chart.step'), 'what is not given stays visible').toBe('Step {n}')
    expect(t('no.such.key' as Key), 'an unknown key shows itself').toBe('no.such.key')
  })

  it('takes the system language where there is one, and English otherwise', () => {
    expect(closest(['xx', 'de-AT', 'fr'])).toBe('de')
    expect(closest(['zh_Hans_CN'])).toBe('zh')
    expect(closest(['xx'])).toBe('en')
  })

  it.each(Object.keys(LANGUAGES) as Language[])('speaks %s', async (code) => {
    await language.choose(code)
    expect(document.documentElement.lang).toBe(code)
    expect(t('common.nav.settings')).toBe(texts(code)['common.nav.settings'])
  })

  it('writes sizes, counts and times as visual.md does', () => {
    const plain = (text: string): string => text.replaceAll('\u00a0', ' ')
    expect(plain(bytes(7_400_000_000))).toBe('7.4 GB')
    expect(plain(bytes(352_900_000))).toBe('353 MB')
    expect(plain(bytes(999_960))).toBe('1.0 MB')
    expect(plain(bytes(12))).toBe('12 B')
    expect(count(1930)).toBe('1,930')
    expect(params(135_000_000)).toBe('135M')
    expect(params(8_030_000_000)).toBe('8B')
    expect(params(1_540_000_000)).toBe('1.5B')
    expect(plain(percent(0.62))).toBe('62 %')
    expect([0, 0.04, 0.42, 0.97].map((seconds) => plain(duration(seconds)))).toEqual(['0 s', '< 0.1 s', '0.4 s', '1 s'])
    expect(plain(duration(58 * 60))).toBe('58 min')
    expect(plain(duration(72 * 60))).toBe('1 h 12 min')
    expect(plain(duration(99))).toBe('1 min 39 s')
    expect(clock(2099)).toBe('34:59')
    expect(clock(4324)).toBe('1:12:04')
    expect(small(0.0002)).toBe('2e-4')
    expect(small(0.000066)).toBe('6.6e-5')
    const now = new Date(2026, 2, 12, 18, 0)
    expect(when(new Date(2026, 2, 12, 14, 45).toISOString(), now)).toBe('today 14:45')
    expect(when(new Date(2026, 2, 11, 9, 5).toISOString(), now)).toBe('yesterday 09:05')
  })
})
