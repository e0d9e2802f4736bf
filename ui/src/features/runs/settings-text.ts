// Settings and their values as people read them.
import { t, count, small } from '../../i18n'
import type { FieldValue } from '../../components/schema'
import { shortName } from './numbers'

/** A value of a setting; `name` decides how text is shortened. */
export function valueText(name: string, value: FieldValue): string {
  if (value === null || value === undefined) return t('runs.value.auto')
  if (typeof value === 'boolean') return t(value ? 'runs.value.yes' : 'runs.value.no')
  if (typeof value === 'number') return Number.isInteger(value) ? wholeText(name, value) : small(value)
  if (Array.isArray(value)) return value.length === 0 ? t('runs.value.none') : value.join(', ')
  if (name === 'model_name' || name === 'dataset' || name === 'eval_dataset') return shortName(value)
  return value
}

/** Seeds are names rather than amounts. */
function wholeText(name: string, value: number): string {
  return name === 'seed' ? String(value) : count(value)
}
