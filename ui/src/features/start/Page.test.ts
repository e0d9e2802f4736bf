import { render, screen, waitFor } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AppError } from '../../api/client'
import type { ModelRow, Run } from '../../api/generated'
import { platform } from '../../platform'
import { models, runs, settings } from '../../state'
import Page from './Page.svelte'

const RUN = {
  job_id: 'train_1', model_id: 'model_1', name: 'Order slips', base_model: 'modelforge/starter', dataset: 'sample:order-slips',
  task: 'text-generation', strategy: 'sft', created_at: '2026-01-01T00:00:00Z', status: 'stopped', phase: null, step: 75,
  total_steps: 600, epoch: 1, num_train_epochs: 1, loss: 0.5, peak_memory_bytes: null, metrics: {}, started_at: null, updated_at: null,
} as Run
const MODEL: ModelRow = {
  model_id: 'model_1', name: 'Order slips', base_model: 'modelforge/starter', task: 'text-generation', strategy: 'sft',
  created_at: '2026-01-01T00:00:00Z', size_mb: 2.4, path: '/m',
}

/** What the backend answers; an operation that is not named fails. */
let answers: Record<string, unknown>

beforeEach(async () => {
  answers = {
    runs_list: [], models_list: [], app_info: { damaged_database: null },
    settings_get: { theme: 'light', language: 'en', offline: false, hub_endpoint: null, unload_after_minutes: 15 },
  }
  location.hash = ''
  localStorage.clear()
  vi.spyOn(platform, 'call').mockImplementation((op) =>
    op in answers ? Promise.resolve(answers[op] as never) : Promise.reject(new AppError(500, `no ${op}`)),
  )
  vi.spyOn(platform, 'stream').mockResolvedValue()
  await settings.refresh()
})

afterEach(() => vi.restoreAllMocks())

async function open(): Promise<HTMLElement> {
  await Promise.all([runs.refresh(), models.refresh()])
  return render(Page).container
}

async function problems(container: HTMLElement): Promise<string[]> {
  // Colours are not computed here; landmarks belong to the frame around the page.
  const { violations } = await axe.run(container, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
  return violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)
}

describe('the first time', () => {
  test('one press starts the sample run and goes to it', async () => {
    answers.finetune_start_training = { job_id: 'train_7' }
    await open()
    await userEvent.click(screen.getByRole('button', { name: 'Try it now' }))
    await waitFor(() => expect(location.hash).toBe('#/runs/train_7'))
  })

  test('a run that cannot start says why, with the way to try again', async () => {
    await open()
    await userEvent.click(screen.getByRole('button', { name: 'Try it now' }))
    expect(await screen.findByRole('alert')).toHaveTextContent('no finetune_start_training')
    expect(screen.getByRole('button', { name: 'Try again' })).toBeEnabled()
  })

  test('shows no example where none could be had, and everything else', async () => {
    const container = await open()
    expect(container.querySelector('.proof')?.textContent?.trim()).toBe('')
    expect(screen.getByRole('link', { name: 'Use my own examples' })).toHaveAttribute('href', '#/tune')
    expect(await problems(container)).toEqual([])
  })
})

describe('later', () => {
  beforeEach(() => {
    answers.runs_list = [RUN]
    answers.models_list = [MODEL]
    answers.runs_curve = { after: null, steps: { stride: 1, step: [], epoch: [], elapsed_ms: [], held: [], columns: {} }, last: null, events: [] }
  })

  test('a paused run goes on from here', async () => {
    answers.runs_resume = { job_id: 'train_1' }
    await open()
    await userEvent.click(screen.getByRole('button', { name: 'Resume Order slips' }))
    await waitFor(() => expect(location.hash).toBe('#/runs/train_1'))
  })

  test('while a run computes, nothing else can be started', async () => {
    answers.runs_list = [{ ...RUN, job_id: 'train_2', status: 'running', phase: 'training' }, RUN]
    const container = await open()
    expect(screen.getByRole('link', { name: 'Open run' })).toHaveAttribute('href', '#/runs/train_2')
    expect(screen.getByRole('progressbar')).toHaveAttribute('aria-valuenow', '13')
    expect(screen.queryByRole('button', { name: 'Try it now' })).toBeNull()
    expect(screen.queryByRole('button', { name: /^Resume/ })).toBeNull()
    expect(await problems(container)).toEqual([])
  })

  test('a finished model is one press away from a chat', async () => {
    const container = await open()
    expect(screen.getByRole('link', { name: 'Chat: Order slips' })).toHaveAttribute('href', '#/chat?model=model_1')
    expect(await problems(container)).toEqual([])
  })

  test('a damaged database is told of until it was read', async () => {
    answers.app_info = { damaged_database: '/data/x/modelforge.db.damaged-1' }
    await open()
    expect(await screen.findByText(/\/data\/x\/modelforge\.db\.damaged-1/)).toBeVisible()
    await userEvent.click(screen.getByRole('button', { name: 'Dismiss' }))
    expect(screen.queryByText(/damaged-1/)).toBeNull()
    await open()
    await waitFor(() => expect(screen.queryByText(/damaged-1/), 'it was read already').toBeNull())
  })

  test('offline, the way back is on the page', async () => {
    answers.settings_get = { ...(answers.settings_get as object), offline: true }
    await settings.refresh()
    await open()
    answers.settings_set = { ...(answers.settings_get as object), offline: false }
    await userEvent.click(screen.getByRole('button', { name: 'Go online' }))
    await waitFor(() => expect(screen.queryByText(/You work offline/)).toBeNull())
  })

  test('a list that cannot be read says so and can be read again', async () => {
    delete answers.runs_list
    await open()
    expect(screen.getByRole('alert')).toHaveTextContent('no runs_list')
    answers.runs_list = [RUN]
    await userEvent.click(screen.getByRole('button', { name: 'Try again' }))
    expect(await screen.findByText('Recent runs')).toBeVisible()
  })
})
