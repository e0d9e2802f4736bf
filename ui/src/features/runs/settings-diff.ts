// What differs between the settings of several runs, or between a run's settings and the defaults.
import type { TrainingConfig } from '../../api/generated'
import { type FieldValue, type SchemaField, literalDefault, sameValue } from '../../components/schema'

export type Name = keyof TrainingConfig

/** What a run is called and where it computes: no settings of the training itself. */
const IDENTITY: ReadonlySet<string> = new Set(['name', 'compute_specs'])

/** Settings that are told elsewhere beside a run. */
const TOLD: ReadonlySet<string> = new Set([...IDENTITY, 'task', 'model_name', 'dataset', 'strategy', 'provider', 'seed'])

export interface Row {
  name: Name
  /** In the order of the runs. */
  values: FieldValue[]
  differs: boolean
}

/** One row for each setting that any of the runs has, in the order of the first run's. */
export function compare(configs: readonly TrainingConfig[]): Row[] {
  const names = new Set(configs.flatMap((config) => Object.keys(config) as Name[]))
  return [...names]
    .filter((name) => !IDENTITY.has(name))
    .map((name) => {
      const values = configs.map((config) => config[name] as FieldValue)
      return { name, values, differs: values.some((value) => !sameValue(value, values[0])) }
    })
}

export interface Changed {
  name: Name
  value: FieldValue
  /** What it would have been; undefined where the backend works that out. */
  usual: FieldValue
}

/** The settings that are not as the schema would have them. */
export function changed(config: TrainingConfig, schema: readonly SchemaField[]): Changed[] {
  return schema
    .filter((field) => field.name in config && !TOLD.has(field.name))
    .map((field) => {
      const name = field.name as Name
      return { name, value: config[name] as FieldValue, usual: usualValue(field, config) }
    })
    .filter(({ value, usual }) => !sameValue(value, usual))
}

/** `found` defaults are worked out after the settings are kept: one that nobody gave stands there as null. */
function usualValue(field: SchemaField, config: TrainingConfig): FieldValue {
  if (field.name === 'learning_rate') return { dpo: 5e-6, rlhf: 1.41e-5, sft: 2e-4, qlora: 2e-4 }[config.strategy]
  if (field.name === 'use_4bit') return config.strategy === 'qlora' && !config.use_8bit
  return literalDefault(field)
}
