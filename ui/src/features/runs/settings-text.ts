// Settings and their values as people read them.
import { count, small, t, type Key } from '../../i18n'
import type { FieldValue } from '../../components/schema'
import { shortName } from './numbers'

/** Settings that the wizard asks for in steps of their own. */
const OWN: Record<string, Key> = {
  task: 'runs.details.task',
  model_name: 'runs.details.base',
  dataset: 'runs.details.dataset',
  strategy: 'runs.details.method',
  name: 'runs.list.name',
  eval_dataset: 'runs.details.testDataset',
  eval_split: 'runs.details.testPart',
  skip_bad_rows: 'runs.details.skipBad',
}

/** What a setting is called; its own name where the catalogue has none. */
export function settingName(name: string): string {
  const key = OWN[name] ?? (`wizard.field.${name}.label` as Key)
  const text = t(key)
  return text === key ? name : text
}

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
