import { render, screen, waitFor } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { beforeEach, expect, it, vi } from 'vitest'
import type { Estimate } from '../../api/generated'
import { backend, normal, reset } from './fake-backend'
import Fixes from './Fixes.svelte'
import Page from './Page.svelte'
import type { WizardController } from './wizard.svelte'

vi.mock('../../platform', () => import('./fake-backend'))

const row = (text: string, cut_tokens = 0) => ({
  row: 1,
  text,
  tokens: [
    { id: 1, text: '<user>', trained: false, special: true },
    { id: 2, text: 'Where is\nmy order?', trained: false, special: false },
    { id: 3, text, trained: true, special: false },
  ],
  cut_tokens,
})

beforeEach(() => {
  reset()
  backend.answers.datasets_preview = () => ({ task: 'text-generation', rows: [row('On its way.', 7)] })
  backend.answers.datasets_check = (input) => ({
    ...(normal.datasets_check?.(input) as object),
    rows: 3,
    usable_rows: 2,
    error_count: 1,
    errors: [{ line: 2, row: 2, field: 'output', message: 'missing field "output"' }],
  })
})

async function violations(container: Element): Promise<string[]> {
  // Colours are not computed here; they are checked in a browser.
  const { violations } = await axe.run(container, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
  return violations.map((one) => `${one.id}: ${one.nodes[0]?.html}`)
}

// Five accessibility checks of whole pages take their time on a busy machine.
it('leads from the task to the start, every step reachable and labelled', async () => {
  const user = userEvent.setup()
  location.hash = '#/tune/task'
  const { container, rerender } = render(Page, { params: ['task'] })
  const next = (step: string) => rerender({ params: [step] })
  const check = async (step: string) => expect(await violations(container), `no accessibility rule is broken in ${step}`).toEqual([])

  expect(screen.getByRole('button', { name: 'Continue to model' }), 'nothing is chosen yet').toBeDisabled()
  await check('task')
  await user.click(screen.getByRole('radio', { name: /Write answers/ }))

  await next('model')
  expect(await screen.findByRole('radio', { name: /big/ }), 'the recommended model is chosen').toBeChecked()
  expect(screen.getByRole('radio', { name: /small/ })).not.toBeChecked()
  await check('model')

  await next('data')
  await user.click(await screen.findByRole('button', { name: /Slips/ }))
  expect(await screen.findByText('Missing field "output".'), 'every bad line has its reason').toBeVisible()
  expect(screen.getByText('Line 2')).toBeVisible()
  expect(screen.getByRole('button', { name: 'Continue to settings' })).toBeDisabled()
  expect(await screen.findByText(/7 more tokens are cut off/), 'what the model does not see is said').toBeVisible()
  await check('data')
  await user.click(screen.getByRole('checkbox', { name: 'Skip this one' }))
  expect(screen.getByRole('link', { name: 'Continue to settings' })).toBeVisible()

  await next('settings')
  expect(await screen.findByRole('radio', { name: /Learn in less memory/ }), 'what cannot run is shown, not offered').toBeDisabled()
  expect(screen.getByRole('radio', { name: /Learn in less memory/ })).toHaveAccessibleDescription(/not yet/)
  await check('settings')

  await next('review')
  const start = await screen.findByRole('button', { name: 'Start training' })
  await waitFor(() => expect(start, 'a complete draft can start').toBeEnabled())
  expect(screen.getByText(/It fits, with 500 B to spare/)).toBeVisible()
  await check('review')
  await user.click(start)
  await waitFor(() => expect(location.hash).toBe('#/runs/train_1'))
}, 60_000)

it('names the processor where a run is too large for the card and fits there', async () => {
  const estimate = normal.finetune_estimate?.({ max_seq_length: 256 } as never) as Estimate
  const plan = { estimate: { ...estimate, fit: 'too_large', on_processor: { memory_bytes: 700, fit: 'tight' } }, fixes: [], busy: false }
  render(Fixes, { wizard: { plan } as unknown as WizardController })
  expect(screen.getByRole('link', { name: 'Compute it on the processor' })).toHaveAttribute('href', '#/settings/compute')
  expect(screen.getByText('then needs 700 B')).toBeVisible()
  expect(screen.queryByText(/Nothing in the settings makes it fit/)).toBeNull()
})
