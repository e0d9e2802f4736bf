import { render, screen, waitFor, within } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { FakePlatform } from './test/platform'

const host = vi.hoisted(() => ({ platform: null as FakePlatform | null }))
vi.mock('../../platform', () => ({
  get platform() {
    return host.platform
  },
}))

import { models, runs } from '../../state'
import Page from './Page.svelte'
import { hostOf, line, run, step } from './test/platform'

// Whole screens are drawn and searched for faults.
vi.setConfig({ testTimeout: 30_000 })

beforeEach(() => {
  Object.assign(runs, { list: [], loading: true, error: null })
  Object.assign(models, { list: [], loading: true, error: null })
  location.hash = ''
})
afterEach(() => {
  document.body.innerHTML = ''
})

/** Serious faults only; colours are checked where they are drawn. */
async function faults(): Promise<string[]> {
  const { violations } = await axe.run(document.body, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
  return violations.filter((one) => one.impact === 'serious' || one.impact === 'critical').map((one) => `${one.id}: ${one.nodes[0]?.html}`)
}

/** By keyboard: the test's document has no pointer events. */
async function choose(user: ReturnType<typeof userEvent.setup>, menu: string, entry: RegExp): Promise<void> {
  screen.getByRole('button', { name: menu }).focus()
  await user.keyboard('{Enter}')
  const items = await screen.findAllByRole('menuitem', { hidden: true })
  items.find((item) => entry.test(item.textContent ?? ''))?.focus()
  await user.keyboard('{Enter}')
}

const MODEL = { model_id: 'model_1', name: 'Order slips', base_model: 'modelforge/starter', task: 'text-generation', strategy: 'sft', created_at: '2026-01-01T00:00:00Z', size_mb: 1, path: '/m' }

const LOG = [
  line({ event: 'started', job_id: 'train_1', pid: 1, version: '1', resumed_from: null }),
  line({ event: 'prepared', train_rows: 240, eval_rows: 60, truncated_rows: 0, skipped_rows: 0, tokens_per_epoch: 1000, trained_tokens_per_epoch: 500, max_seq_length: 85, total_steps: 100 }),
  line({ event: 'phase', phase: 'training' }),
  ...Array.from({ length: 40 }, (_, i) => step(i + 1)),
  line({ event: 'eval', step: 20, metrics: { eval_loss: 0.8, perplexity: 2.2 } }),
  line({ event: 'eval', step: 40, metrics: { eval_loss: 0.5, perplexity: 1.6 } }),
  line({ event: 'sample', step: 40, prompt: 'Where is my order?', text: 'On its way.' }),
  line({ event: 'checkpoint', step: 40, path: '/c' }),
]

async function openRun(fields: Record<string, unknown> = {}, log = LOG) {
  const made = hostOf(run(fields))
  host.platform = made.platform
  const user = userEvent.setup()
  render(Page, { params: ['train_1'] })
  await screen.findByRole('heading', { level: 1, name: 'Order slips' })
  log.forEach((event) => made.platform.events!.feed(event))
  return { ...made, user }
}

describe('the run monitor', () => {
  it('shows a run that trains: how far it is, what it answers, and its orders', async () => {
    const { user, platform } = await openRun()
    const bar = await screen.findByRole('progressbar', { name: 'Training steps' })
    expect(bar).toHaveAttribute('aria-valuenow', '40')
    expect(screen.getByText('Step 40 of 100')).toBeVisible()
    expect(screen.getByText('On its way.')).toBeVisible()
    expect(screen.getByRole('img', { name: /best 0.50 at step 40/ }), 'the chart says what it shows').toBeVisible()
    expect(await faults()).toEqual([])
    await user.click(screen.getByRole('button', { name: 'Pause' }))
    expect(await screen.findByText('Pausing')).toBeVisible()
    expect(platform.asked.some(({ op }) => op === 'runs_pause')).toBe(true)
  })

  it('asks before it discards, with the focus on the safe answer', async () => {
    const { user, platform } = await openRun()
    await screen.findByText('Step 40 of 100')
    await choose(user, 'Stop', /Stop and discard/)
    const dialog = await screen.findByRole('alertdialog', { name: 'Discard this run?', hidden: true })
    expect(dialog).toHaveTextContent('40 steps of training')
    expect(platform.asked.some(({ op }) => op === 'runs_stop'), 'nothing happens before the answer').toBe(false)
    await waitFor(() => expect(within(dialog).getByRole('button', { name: 'Keep training' })).toHaveFocus())
    await user.click(within(dialog).getByRole('button', { name: 'Discard run' }))
    await waitFor(() => expect(platform.asked).toContainEqual({ op: 'runs_stop', input: { job_id: 'train_1', keep: false } }))
  })

  it('says what happens before the first step', async () => {
    await openRun({}, [line({ event: 'download', file: 'model.safetensors', bytes: 250_000_000, total_bytes: 1_000_000_000 }) as never])
    expect(await screen.findByText('Downloading model.safetensors')).toBeVisible()
    expect(screen.getByText(/250.MB of 1\.0.GB/)).toBeVisible()
    expect(await faults()).toEqual([])
  })

  it.each([
    ['stopped', 'Paused at step 40.', 'Resume'],
    ['interrupted', 'Training was interrupted at step 40.', 'Resume from step 40'],
    ['failed', 'Training failed at step 40.', 'Resume from step 40'],
  ])('explains a run that is %s and takes it up again', async (status, title, button) => {
    const { user, platform } = await openRun({ status, step: 40, ...(status === 'failed' && { error: 'the loss is not a finite number' }) })
    expect(await screen.findByText(title)).toBeVisible()
    if (status === 'failed') expect(screen.getByText('the loss is not a finite number')).toBeVisible()
    expect(await faults()).toEqual([])
    await user.click(await screen.findByRole('button', { name: button }))
    expect(platform.asked.some(({ op }) => op === 'runs_resume')).toBe(true)
  })

  it('shows how answers are scored, beside the base model', async () => {
    const scored = (at: number, f1: number, exact_match: number) =>
      line({ event: 'eval', step: at, metrics: { eval_loss: 0.5, perplexity: 1.6, f1, exact_match }, answered_rows: 50 })
    const { user } = await openRun({}, [scored(0, 12.5, 0), ...LOG.filter(({ event }) => event !== 'eval'), scored(20, 71.25, 60), scored(40, 64, 62)])
    const f1 = /F1 is 64\.0.%.* at step 40, best 71\.3.%.* at step 20, base model 12\.5.%/
    expect(await screen.findByRole('img', { name: f1 })).toBeVisible()
    expect(screen.getByText('50 rows answered')).toBeVisible()
    await user.click(screen.getByRole('radio', { name: 'exact match' }))
    expect(await screen.findByRole('img', { name: /exact match is 62\.0.%.* best 62\.0.%.* at step 40, base model 0\.0.%/ })).toBeVisible()
    await user.click(screen.getByRole('radio', { name: 'perplexity' }))
    expect(screen.queryByText('50 rows answered'), 'the loss is of all rows').toBeNull()
    expect(screen.getByRole('img', { name: /best 0.50 at step 20/ }), 'the base model is not the best of the run').toBeVisible()
    expect(await faults()).toEqual([])
  })

  it('draws what the method measures at each step, and on the test rows', async () => {
    const compared = (n: number) => step(n, 100, { metrics: { 'rewards/accuracies': n / 100, 'rewards/margins': n / 10, oddity: 1 } })
    const tested = line({ event: 'eval', step: 40, metrics: { eval_loss: 0.5, 'rewards/accuracies': 0.95, 'rewards/margins': 3 } })
    const { user } = await openRun({ strategy: 'dpo' }, [...LOG.filter(({ event }) => event !== 'eval' && event !== 'step'), ...[10, 20, 40].map(compared), tested])
    expect(await screen.findByRole('img', { name: /right choices went from .* over 40 steps, 95\.0.%.* on the test rows/ })).toBeVisible()
    await user.click(screen.getByRole('radio', { name: 'oddity' }))
    expect(await screen.findByRole('img', { name: /oddity went from 1.00 to 1.00 over 40 steps/ }), 'any name will do').toBeVisible()
    expect(screen.queryByText('Measured on test rows'), 'nothing is shown twice').toBeNull()
    expect(await faults()).toEqual([])
  })

  it('offers what can be done with a finished model', async () => {
    const made = hostOf(run({ status: 'completed', step: 100, total_steps: 100, metrics: { eval_loss: 0.5, final_loss: 0.02 } }))
    made.platform.answers.models_list = () => [MODEL]
    host.platform = made.platform
    render(Page, { params: ['train_1'] })
    await screen.findByText('Your model is ready')
    made.platform.events!.feed(LOG[0])
    LOG.forEach((event) => made.platform.events!.feed(event))
    for (const [name, href] of [
      ['Chat', '#/chat?model=model_1'],
      ['Compare with base', '#/chat?model=model_1&compare=1'],
      ['Export', '#/models/model_1?export=1'],
      ['Push to Hub', '#/models/model_1?push=1'],
    ] as const) {
      expect(screen.getByRole('link', { name })).toHaveAttribute('href', href)
    }
    await screen.findAllByText('step 20 → end')
    made.platform.events!.feed(line({ event: 'finished', result: { success: true, message: '' }, metrics: { rougeL: 0.3125 } }))
    expect((await screen.findByText('ROUGE-L')).closest('.stat'), 'as it was measured').toHaveTextContent('0.313')
    expect(await faults()).toEqual([])
  })

  it('says when the model of a finished run is gone', async () => {
    await openRun({ status: 'completed', step: 100 })
    expect(await screen.findByText('The model of this run was deleted.')).toBeVisible()
    expect(screen.queryByRole('link', { name: 'Chat' }), 'no dead button').toBeNull()
  })

  it('says when there is no such run', async () => {
    host.platform = hostOf(run()).platform
    delete host.platform.answers.runs_get
    render(Page, { params: ['train_9'] })
    expect(await screen.findByText('This run is not here')).toBeVisible()
    expect(screen.getByRole('link', { name: 'Show all runs' })).toHaveAttribute('href', '#/runs')
  })

  it('opens the log, filters it and keeps every warning', async () => {
    const { user } = await openRun({}, [...LOG, line({ event: 'warning', message: 'row 7 is empty' })])
    await user.click(await screen.findByRole('button', { name: 'Open log' }))
    const log = within(screen.getByRole('list', { name: 'Log' }))
    expect(log.getAllByRole('listitem').length).toBeGreaterThan(4)
    await user.click(screen.getByRole('radio', { name: 'Warnings' }))
    expect(log.getAllByRole('listitem')).toHaveLength(1)
    expect(log.getByText(/row 7 is empty/)).toBeVisible()
  })
})

describe('the list of runs', () => {
  it('says what will be there when there is none', async () => {
    const made = hostOf(run())
    made.platform.answers.runs_list = () => []
    host.platform = made.platform
    render(Page, { params: [] })
    expect(await screen.findByText('Your runs appear here')).toBeVisible()
    expect(screen.getByRole('link', { name: 'Fine-tune a model' })).toHaveAttribute('href', '#/tune')
  })

  it('picks runs to compare and deletes after asking', async () => {
    const list = [1, 2, 3].map((n) => run({ job_id: `train_${n}`, name: `Run ${n}`, status: 'completed', created_at: `2026-01-0${n}T00:00:00Z` }))
    const made = hostOf(list[0]!)
    made.platform.answers.runs_list = () => list
    host.platform = made.platform
    const user = userEvent.setup()
    render(Page, { params: [] })
    await screen.findByRole('link', { name: 'Run 3' })
    expect(await faults()).toEqual([])
    await user.click(screen.getByRole('checkbox', { name: 'Compare Run 1' }))
    expect(screen.getByRole('button', { name: 'Compare' }), 'one run is nothing to compare').toBeDisabled()
    await user.click(screen.getByRole('checkbox', { name: 'Compare Run 3' }))
    expect(screen.getByRole('link', { name: 'Compare' })).toHaveAttribute('href', '#/runs/compare/train_1/train_3')
    await choose(user, 'Actions for Run 2', /Delete run/)
    const dialog = await screen.findByRole('alertdialog', { name: 'Delete “Run 2”?', hidden: true })
    await user.click(within(dialog).getByRole('button', { name: 'Delete run' }))
    await waitFor(() => expect(made.platform.asked).toContainEqual({ op: 'runs_delete', input: { job_id: 'train_2' } }))
  })
})

describe('runs side by side', () => {
  it('lists what differs, and everything when asked', async () => {
    const made = hostOf(run())
    const get = made.platform.answers.runs_get as unknown as () => { spec: { config: object } }
    made.platform.answers.runs_get = ({ job_id }: { job_id: string }) => {
      const one = get()
      const rank = job_id === 'train_2' ? 32 : 16
      return { ...one, job_id, name: `Run ${job_id.at(-1)}`, spec: { ...one.spec, config: { ...one.spec.config, lora_r: rank } } }
    }
    host.platform = made.platform
    const user = userEvent.setup()
    render(Page, { params: ['compare', 'train_1', 'train_2'] })
    expect(await screen.findByRole('rowheader', { name: /lora_r/ })).toBeVisible()
    expect(screen.queryByRole('rowheader', { name: /learning_rate/ })).toBeNull()
    expect(await faults()).toEqual([])
    await user.click(screen.getByRole('switch', { name: 'All settings' }))
    expect(screen.getByRole('rowheader', { name: /learning_rate/ })).toBeVisible()
  })
})
