import { expect, it } from 'vitest'
import type { TrainingConfig } from '../../api/generated'
import type { SchemaField } from '../../components/schema'
import { changed, compare } from './settings-diff'

const base = { task: 'text-generation', strategy: 'sft', name: 'a', lora_r: 16, learning_rate: 2e-4, target_modules: ['q_proj'], use_4bit: false, use_8bit: false, max_seq_length: null, seed: 42 } as TrainingConfig

const SCHEMA: SchemaField[] = [
  { name: 'name', type: 'text', default: { is: 'found', value: '' }, help: '' },
  { name: 'lora_r', type: 'int', default: { is: 'int', value: 16 }, help: '' },
  { name: 'learning_rate', type: 'float', default: { is: 'by_strategy', value: '' }, help: '' },
  { name: 'use_4bit', type: 'bool', default: { is: 'by_strategy', value: '' }, help: '' },
  { name: 'max_seq_length', type: 'int', default: { is: 'found', value: '' }, help: '' },
  { name: 'target_modules', type: 'text_list', default: { is: 'found', value: '' }, help: '' },
  { name: 'seed', type: 'int', default: { is: 'int', value: 42 }, help: '' },
]

it('compares lists by what they hold and leaves names out', () => {
  const rows = compare([base, { ...base, name: 'b', lora_r: 32, target_modules: ['q_proj'] }])
  expect(rows.filter((row) => row.differs).map((row) => row.name)).toEqual(['lora_r'])
  expect(rows.some((row) => row.name === 'name'), 'two runs always differ in name').toBe(false)
})

it('names what is not as the schema would have it', () => {
  expect(changed({ ...base, target_modules: null }, SCHEMA), 'all as usual').toEqual([])
  const qlora = { ...base, strategy: 'qlora', use_4bit: true, target_modules: null } as TrainingConfig
  expect(changed(qlora, SCHEMA), '4 bits follow from the strategy').toEqual([])
  expect(changed({ ...base, strategy: 'dpo', lora_r: 8 } as TrainingConfig, SCHEMA).map((c) => c.name)).toEqual([
    'lora_r',
    'learning_rate',
    'target_modules',
  ])
})
