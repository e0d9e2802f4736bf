// All visible text and how numbers are written, in the language that was chosen.
export { t, type Key } from './catalogue.svelte'
export { LANGUAGES, language, type Language } from './language.svelte'
export * from './format'
