// The settings of a run as their schema describes them, and what is wrong with a value.

/** One setting: its type, range, default and what it does. */
export interface SchemaField {
  name: string
  type: 'choice' | 'text' | 'int' | 'float' | 'bool' | 'text_list'
  values?: string[]
  min?: number
  max?: number
  /** Which ends of the range belong to it; both where it is absent. */
  ends?: 'both' | 'upper' | 'lower'
  /** `found` and `by_strategy` are worked out by the backend when the value is left out. */
  default: { is: 'required' | 'text' | 'int' | 'float' | 'bool' | 'found' | 'by_strategy'; value?: unknown }
  help: string
  /** The strategies that it has an effect with; all where it is absent. */
  only?: string[]
}

export type FieldValue = string | number | boolean | string[] | null | undefined

/** Why a value cannot be sent. */
export type FieldProblem =
  | { kind: 'number' | 'whole' }
  | { kind: 'atLeast' | 'above' | 'atMost' | 'below'; limit: number }

/** Limits beyond this are those of the number's type, of no interest to a person. */
const UNBOUNDED = 2 ** 31 - 1

/** Whether a setting has an effect with a strategy. */
export function goesWith(field: SchemaField, strategy: string): boolean {
  return field.only === undefined || field.only.includes(strategy)
}

/** The default that the schema names; undefined where the backend works it out. */
export function literalDefault(field: SchemaField): FieldValue {
  const { is, value } = field.default
  return is === 'required' || is === 'found' || is === 'by_strategy' ? undefined : (value as FieldValue)
}

export function problemOf(field: SchemaField, value: FieldValue): FieldProblem | null {
  if (value === undefined || value === null) return null
  if (field.type !== 'int' && field.type !== 'float') return null
  if (typeof value !== 'number' || !Number.isFinite(value)) return { kind: 'number' }
  if (field.type === 'int' && !Number.isInteger(value)) return { kind: 'whole' }
  const { min, max, ends = 'both' } = field
  if (min !== undefined) {
    if (ends === 'upper' ? value <= min : value < min) {
      return { kind: ends === 'upper' ? 'above' : 'atLeast', limit: min }
    }
  }
  if (max !== undefined) {
    if (ends === 'lower' ? value >= max : value > max) {
      return { kind: ends === 'lower' ? 'below' : 'atMost', limit: max }
    }
  }
  return null
}

/** The limits worth showing beside a field. */
export function shownRange(field: SchemaField): { min?: number; max?: number } {
  const shown: { min?: number; max?: number } = {}
  if (field.min !== undefined) shown.min = field.min
  if (field.max !== undefined && field.max < UNBOUNDED) shown.max = field.max
  return shown
}

/** Whether two values of a field are the same, lists compared by what they hold. */
export function sameValue(a: FieldValue, b: FieldValue): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((one, i) => one === b[i])
  return (a ?? null) === (b ?? null)
}

/** What is typed for a list: names between commas or spaces. */
export function parseList(text: string): string[] {
  return text.split(/[\s,]+/).filter((part) => part !== '')
}
