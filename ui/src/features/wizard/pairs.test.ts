import { render, screen } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { beforeEach, expect, it, vi } from 'vitest'
import { backend, normal, reset } from './fake-backend'
import Page from './Page.svelte'

vi.mock('../../platform', () => import('./fake-backend'))

const row = (text: string) => ({
  row: 1,
  text,
  tokens: [
    { id: 2, text: 'Where is my order?', trained: false, special: false },
    { id: 3, text, trained: true, special: false },
  ],
  cut_tokens: 0,
})

beforeEach(reset)

async function violations(container: Element): Promise<string[]> {
  // Colours are not computed here; they are checked in a browser.
  const { violations } = await axe.run(container, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
  return violations.map((one) => `${one.id}: ${one.nodes[0]?.html}`)
}

it('shows both answers of a pair, and the settings of comparing them', async () => {
  const user = userEvent.setup()
  const beta = { name: 'beta', type: 'float', min: 0, default: { is: 'float', value: 0.1 }, help: '', only: ['dpo'] }
  const clip = { name: 'cliprange', type: 'float', min: 0, default: { is: 'float', value: 0.2 }, help: '', only: ['rlhf'] }
  backend.answers.finetune_config_schema = (input) => [...(normal.finetune_config_schema?.(input) as object[]), beta, clip]
  backend.answers.datasets_samples = () => [{ dataset: 'sample:polite', title: 'Polite', task: 'text-generation', strategy: 'dpo' }]
  backend.answers.datasets_check = (input) => ({ ...(normal.datasets_check?.(input) as object), form: 'preference' })
  backend.answers.datasets_preview = () => ({ task: 'text-generation', rows: [row('Gladly! It is on its way.'), row('On its way. Next.')] })
  localStorage.clear()
  location.hash = '#/tune/task'
  const { container, rerender } = render(Page, { params: ['task'] })
  await user.click(screen.getByRole('radio', { name: /Write answers/ }))
  await rerender({ params: ['model'] })
  await screen.findByRole('radio', { name: /big/ })
  await rerender({ params: ['data'] })
  expect(await screen.findByText(/"chosen": "…"/), 'the form is among the examples').toBeInTheDocument()
  await user.click(await screen.findByRole('button', { name: /Polite.*pairs of answers/ }))
  expect(await screen.findByText(/11 pairs of a better and a worse answer/)).toBeVisible()
  expect(await screen.findByText('Better answer (chosen)')).toBeVisible()
  expect(screen.getByText('Gladly! It is on its way.')).toBeVisible()
  await user.click(screen.getByRole('button', { name: 'Next row' }))
  expect(screen.getByText('Worse answer (rejected)')).toBeVisible()
  expect(await violations(container)).toEqual([])

  await rerender({ params: ['settings'] })
  expect(await screen.findByRole('radio', { name: /Learn what is better/ })).toBeChecked()
  expect(screen.getByRole('radio', { name: /Learn from examples/ }), 'does not go with pairs').toBeDisabled()
  await user.click(screen.getByRole('radio', { name: 'Advanced' }))
  expect(await screen.findByLabelText('Closeness to the base (beta)')).toHaveValue('0.1')
  expect(screen.queryByLabelText('Largest change'), 'a setting of another method').toBeNull()
}, 60_000)
