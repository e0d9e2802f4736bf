// `t`: the text of a key in the chosen language, with its values filled in.
import chat from './en/chat.json'
import common from './en/common.json'
import models from './en/models.json'
import runs from './en/runs.json'
import settings from './en/settings.json'
import start from './en/start.json'
import wizard from './en/wizard.json'
import { flatten, language } from './language.svelte'

const english = { chat, common, models, runs, settings, start, wizard }

/** Every path to a text. */
type Paths<T> = { [K in keyof T & string]: T[K] extends string ? K : `${K}.${Paths<T[K]>}` }[keyof T & string]

/** A counted text has a form for each kind of number; its key is without that ending. */
type Base<K extends string> = K extends `${infer Stem}_${'zero' | 'one' | 'two' | 'few' | 'many' | 'other'}` ? Stem : K

/** The keys of all texts, as the English ones name them. */
export type Key = Base<Paths<typeof english>>

export type Values = Readonly<Record<string, string | number>>

const ENGLISH = Object.assign(
  {},
  ...Object.entries(english).map(([feature, texts]) => flatten(texts, feature)),
) as Record<string, string>

/** The text of a key. `{name}` takes the value of that name, numbers as the language writes them; `n` chooses the plural. */
export function t(key: Key, values?: Values): string {
  const texts = language.texts
  const text = (texts && pick(texts, key, values?.n, language.code)) ?? pick(ENGLISH, key, values?.n, 'en') ?? key
  if (!values) return text
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name]
    if (value === undefined) return whole
    return typeof value === 'number' ? numbers(language.code).format(value) : value
  })
}

function pick(texts: Record<string, string>, key: string, n: string | number | undefined, code: string): string | undefined {
  if (typeof n !== 'number') return texts[key] ?? texts[`${key}_other`]
  return texts[`${key}_${plurals(code).select(n)}`] ?? texts[`${key}_other`] ?? texts[key]
}

const plurals = cached((code) => new Intl.PluralRules(code))
const numbers = cached((code) => new Intl.NumberFormat(code))

function cached<T>(make: (code: string) => T): (code: string) => T {
  const made = new Map<string, T>()
  return (code) => {
    let one = made.get(code)
    if (!one) made.set(code, (one = make(code)))
    return one
  }
}
