import { render, screen } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { expect, it, vi } from 'vitest'
import SchemaForm from './SchemaForm.svelte'
import type { FieldValue, SchemaField } from './schema'

const FIELDS: SchemaField[] = [
  { name: 'epochs', type: 'int', min: 1, max: 2147483647, default: { is: 'int', value: 3 }, help: 'How often.' },
  { name: 'rate', type: 'float', min: 0, max: 1, ends: 'upper', default: { is: 'by_strategy', value: '2e-4' }, help: 'How fast.' },
  { name: 'optim', type: 'choice', values: ['adam', 'sgd'], default: { is: 'text', value: 'adam' }, help: 'What steps.' },
  { name: 'four', type: 'bool', default: { is: 'bool', value: false }, help: 'Four bits.' },
  { name: 'nested', type: 'bool', default: { is: 'bool', value: false }, help: 'Scales too.' },
  { name: 'modules', type: 'text_list', default: { is: 'found', value: '' }, help: 'Which layers.' },
]

function form(values: Record<string, FieldValue> = {}, more = {}) {
  const onchange = vi.fn<(name: string, value: FieldValue) => void>()
  const standard = Object.fromEntries(FIELDS.map(({ name, default: { is, value } }) => [name, is === 'found' || is === 'by_strategy' ? undefined : value]))
  const result = render(SchemaForm, {
    groups: [{ id: 'one', title: 'Training', text: '', fields: FIELDS }],
    value: (name: string) => (name in values ? values[name] : (standard[name] as FieldValue)),
    onchange,
    ...more,
  })
  return { ...result, onchange }
}

it('gives every field a labelled control with its hint', async () => {
  const { container } = form()
  for (const { name, help } of FIELDS) {
    const control = screen.getByLabelText(name)
    expect(control, `${name} is described by its hint`).toHaveAccessibleDescription(help)
  }
  const { violations } = await axe.run(container, { rules: { region: { enabled: false }, 'color-contrast': { enabled: false } } })
  expect(violations.map((one) => one.id), 'no accessibility rule is broken').toEqual([])
})

it('tells what is typed, as the kind of value that the field has', async () => {
  const { onchange } = form()
  const user = userEvent.setup()
  await user.clear(screen.getByLabelText('epochs'))
  expect(onchange, 'an empty field is back at its default').toHaveBeenLastCalledWith('epochs', undefined)
  await user.type(screen.getByLabelText('rate'), '3e-4')
  expect(onchange).toHaveBeenLastCalledWith('rate', 3e-4)
  await user.type(screen.getByLabelText('modules'), 'q_proj, v_proj')
  expect(onchange).toHaveBeenLastCalledWith('modules', ['q_proj', 'v_proj'])
  await user.selectOptions(screen.getByLabelText('optim'), 'sgd')
  expect(onchange).toHaveBeenLastCalledWith('optim', 'sgd')
  await user.click(screen.getByRole('switch', { name: 'four' }))
  expect(onchange).toHaveBeenLastCalledWith('four', true)
})

it('marks what differs from its default and gives it back', async () => {
  const { onchange } = form({ epochs: 5 })
  expect(screen.getAllByLabelText('Changed from default'), 'only what differs is marked').toHaveLength(1)
  await userEvent.click(screen.getByRole('button', { name: 'Reset epochs to 3' }))
  expect(onchange).toHaveBeenCalledWith('epochs', undefined)
})

it('says at the field what is wrong with a value', () => {
  const error = (name: string) => (name === 'optim' ? 'does not go with this' : undefined)
  form({ epochs: 0, rate: NaN }, { error })
  expect(screen.getByLabelText('epochs')).toHaveAccessibleDescription('At least 1')
  expect(screen.getByLabelText('rate')).toHaveAccessibleDescription('Enter a number')
  expect(screen.getByLabelText('optim'), 'the backend\'s own words').toHaveAccessibleDescription('does not go with this')
  expect(screen.getByLabelText('epochs')).toHaveAttribute('aria-invalid', 'true')
})

it('closes what cannot be chosen and says why', () => {
  const refusal = (name: string, value: FieldValue) => (name === 'four' && value === true ? 'not in this version' : undefined)
  const needs = (name: string) => (name === 'nested' ? 'four' : undefined)
  form({}, { refusal, needs })
  expect(screen.getByLabelText('four')).toBeDisabled()
  expect(screen.getByLabelText('four')).toHaveAccessibleDescription('not in this version')
  expect(screen.getByLabelText('nested')).toBeDisabled()
  expect(screen.getByLabelText('nested')).toHaveAccessibleDescription('Only with “four”')
})
