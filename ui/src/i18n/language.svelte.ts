// Which language the app speaks. English is always there; the others are loaded when they are chosen.

/** The languages there are, each by its own name. */
export const LANGUAGES = {
  en: 'English',
  zh: '中文',
  es: 'Español',
  fr: 'Français',
  de: 'Deutsch',
  hi: 'हिन्दी',
} as const

export type Language = keyof typeof LANGUAGES

/** Texts by key, such as `common.action.cancel`. */
export type Texts = Record<string, string>

type Nested = { [key: string]: string | Nested }

const files = import.meta.glob<{ default: Nested }>(['./*/*.json', '!./en/*.json'])

class Chosen {
  /** The language of the texts on screen. */
  code = $state<Language>('en')
  /** Its texts; null for English, which is built in. */
  texts = $state.raw<Texts | null>(null)

  #wanted: Language = 'en'

  /** Chooses by a tag such as `de-AT`; null takes the system's language. What there is none for is English. */
  async choose(tag: string | null): Promise<void> {
    const code = closest(tag === null ? navigator.languages : [tag])
    this.#wanted = code
    const texts = code === 'en' ? null : await load(code)
    // Another language may have been chosen while this one was loaded.
    if (this.#wanted !== code) return
    this.code = code
    this.texts = texts
    document.documentElement.lang = code
  }
}

export const language = new Chosen()

/** The first language of a list that there is. */
export function closest(tags: readonly string[]): Language {
  for (const tag of tags) {
    const code = tag.toLowerCase().split(/[-_]/)[0] ?? ''
    if (code in LANGUAGES) return code as Language
  }
  return 'en'
}

async function load(code: Language): Promise<Texts> {
  const own = Object.entries(files).filter(([path]) => path.startsWith(`./${code}/`))
  const loaded = await Promise.all(
    own.map(async ([path, file]) => flatten((await file()).default, path.slice(code.length + 3, -'.json'.length))),
  )
  return Object.assign({}, ...loaded) as Texts
}

/** Nested texts as one level: `{ a: { b: 'x' } }` under `f` is `{ 'f.a.b': 'x' }`. */
export function flatten(texts: Nested, prefix: string): Texts {
  const flat: Texts = {}
  for (const [name, value] of Object.entries(texts)) {
    const key = `${prefix}.${name}`
    if (typeof value === 'string') flat[key] = value
    else Object.assign(flat, flatten(value, key))
  }
  return flat
}
