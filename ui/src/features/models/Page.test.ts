import { render, screen, waitFor, within } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { FakeHost } from '../../test/host'

const at = vi.hoisted(() => ({ host: null as FakeHost | null }))
vi.mock('../../platform', () => ({
  get platform() {
    return at.host
  },
}))

import type { ModelRow } from '../../api/generated'
import { AppError } from '../../platform/error'
import { router } from '../../router.svelte'
import { models, runs, settings } from '../../state'
import { baseModels } from '../../state/base-models.svelte'
import { hostWith, model, settled } from '../../test/host'
import { library } from './library.svelte'
import Page from './Page.svelte'
import { pushes } from './push.svelte'

// Machines that run the tests may be slow.
vi.setConfig({ testTimeout: 30_000 })
const user = userEvent.setup()
let host: FakeHost

beforeEach(() => {
  location.hash = ''
  router.query = new URLSearchParams()
  for (const store of [models, baseModels, runs]) Object.assign(store, { list: [], loading: true, error: null })
  library.clear()
  library.sort = { key: 'made', down: true }
  for (const push of pushes.list) pushes.forget(push.model)
})

const config = { model_name: 'modelforge/starter', dataset: 'sample:order-slips', lora_r: 32, seed: 42, learning_rate: 0.0002, bf16: false }

async function open(
  list: ModelRow[],
  { id, query = '', metrics = {}, manifest, answers = {} }: { id?: string; query?: string; metrics?: Record<string, number>; manifest?: object; answers?: FakeHost['answers'] } = {},
): Promise<void> {
  host = at.host = hostWith(list)
  host.answers.models_get = ({ model_id }: { model_id: string }) => ({
    ...list.find((row) => row.model_id === model_id),
    provider: 'unsloth',
    config,
    metrics: { eval_loss: 0.89, final_loss: 0.0022, perplexity: 2.44, ...metrics },
  })
  if (manifest) host.answers.models_manifest = () => manifest
  host.answers.finetune_config_schema = () => [
    { name: 'lora_r', type: 'int', default: { is: 'int', value: 16 }, help: '' },
    { name: 'bf16', type: 'bool', default: { is: 'bool', value: false }, help: '' },
    { name: 'learning_rate', type: 'float', default: { is: 'float', value: 0.0002 }, help: '' },
  ]
  host.answers.settings_get = () => ({ theme: 'system', language: null, offline: false, hub_endpoint: null, unload_after_minutes: 0 })
  Object.assign(host.answers, answers)
  await settings.refresh()
  router.query = new URLSearchParams(query)
  render(Page, { params: id === undefined ? [] : [id] })
  await waitFor(() => expect(models.loading || baseModels.loading).toBe(false))
  await settled()
}

const many = (count: number): ModelRow[] =>
  Array.from({ length: count }, (_, n) =>
    model(`model_${n}`, { name: `Model ${n}`, created_at: new Date(1_700_000_000_000 + n * 60_000).toISOString(), size_mb: n % 97 }),
  )
const rows = () => document.querySelectorAll('tbody tr[data-id]')

async function violations(): Promise<string[]> {
  // jsdom computes no colours; contrast is checked on the tokens.
  const { violations } = await axe.run(document.body, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`)
}

describe('a model', () => {
  it('is shown with its metrics and those of its base model', async () => {
    const manifest = {
      base_here: true,
      dataset_here: true,
      train_rows: 240,
      eval_rows: 60,
      answered_rows: 50,
      base_metrics: { f1: 12.5, eval_loss: 2 },
      best_step: 40,
      steps: 100,
      tokens: 1,
      seconds: 60,
      seed: 42,
      versions: {},
      files: [],
    }
    await open(many(1), { metrics: { f1: 71.25, exact_match: 60 }, manifest })
    const f1 = (await screen.findByText('F1')).closest('.stat')
    expect(f1).toHaveTextContent(/71\.3.%F1base 12\.5.%/)
    expect(screen.getByText('exact match').closest('.stat'), 'what was not measured is absent').toHaveTextContent(/^60\.0.%exact match$/)
    expect(screen.getByText('Kept as it was at step 40, the best')).toBeInTheDocument()
    expect(await violations()).toEqual([])
  })
})

describe('a model that is made again', () => {
  const same = { same: true, differences: [], download: false, version_then: '0.1.0', version_now: '0.1.0' }
  const ask = (answers: FakeHost['answers']): Promise<void> => open(many(1), { id: 'model_0', query: 'again=1', answers })

  it('starts once its files are found to be the same', async () => {
    const asked: object[] = []
    const models_train_again = (input: object): object => {
      asked.push(input)
      return { success: true, message: '', job_id: 'train_1' }
    }
    await ask({ models_origin: () => same, models_train_again })
    await screen.findByText('Base model and dataset are exactly as they were.')
    expect(await violations()).toEqual([])
    await user.click(within(screen.getByRole('dialog')).getByRole('button', { name: 'Train again' }))
    await waitFor(() => expect(location.hash).toBe('#/runs/train_1'))
    expect(asked).toEqual([{ model_id: 'model_0', anyway: false }])
  })

  it('tells what is not as it was, and starts only when told to all the same', async () => {
    const changed = { ...same, same: false, differences: [{ part: 'dataset', path: '/data/rows.jsonl', missing: false }], version_then: '0.0.9' }
    const models_train_again = (): never => {
      throw new AppError(400, 'Training already in progress: train_0')
    }
    await ask({ models_origin: () => changed, models_train_again })
    const dialog = await screen.findByRole('dialog')
    await within(dialog).findByText(/Not everything is as it was/)
    expect(dialog).toHaveTextContent(/The dataset has changed:.*\/data\/rows.jsonl/)
    expect(dialog).toHaveTextContent('It was made by version 0.0.9; this is 0.1.0')
    await user.click(within(dialog).getByRole('button', { name: 'Train anyway' }))
    await within(dialog).findByText('Training already in progress: train_0')
  })

  it('cannot be where a file is gone', async () => {
    const gone = { ...same, same: false, differences: [{ part: 'base_model', path: '/models/base', missing: true }] }
    await ask({ models_origin: () => gone })
    const dialog = await screen.findByRole('dialog')
    await within(dialog).findByText(/Something it was made from is gone/)
    expect(within(dialog).queryByRole('button', { name: /Train/ })).toBeNull()
  })

  it('gives its settings to a run with others, under a new name', async () => {
    await ask({ models_origin: () => same })
    await user.click(await screen.findByRole('button', { name: 'Change settings' }))
    await waitFor(() => expect(location.hash).toBe('#/tune'))
    expect(JSON.parse(sessionStorage.getItem('modelforge.again') ?? '{}')).toMatchObject({ ...config, name: null })
  })
})

describe('the list', () => {
  it('of 10,000 models draws only the rows around the screen', async () => {
    await open(many(10_000))
    expect(rows().length, 'rows drawn').toBeLessThan(50)
    expect(screen.getByText(/Yours, 10,000 models/)).toBeInTheDocument()
    expect(screen.getByRole('table')).toHaveAttribute('aria-rowcount', '10004')
    await user.click(screen.getByRole('button', { name: /Size/ }))
    expect(rows()[0], 'the largest first').toHaveTextContent(/96\.0.MB/)
    expect(rows().length, 'rows drawn').toBeLessThan(50)
  })

  it('shows the newest and opens it without being asked', async () => {
    await open(many(3))
    expect(rows()[0]).toHaveAttribute('aria-selected', 'true')
    expect(await screen.findByRole('heading', { name: 'Model 2' })).toBeInTheDocument()
    expect(await violations()).toEqual([])
  })

  it('moves with the arrow keys', async () => {
    await open(many(3))
    within(rows()[0] as HTMLElement).getByRole('link').focus()
    await user.keyboard('{ArrowDown}')
    expect(location.hash).toBe('#/models/model_1')
  })

  it('finds by name, and says when nothing matches', async () => {
    await open(many(30))
    await user.type(screen.getByRole('searchbox', { name: 'Search models' }), 'model 29')
    expect(rows()).toHaveLength(1)
    await user.type(screen.getByRole('searchbox', { name: 'Search models' }), 'x')
    expect(screen.getByText('No model matches')).toBeInTheDocument()
    await user.click(screen.getByRole('button', { name: 'Show all models' }))
    expect(rows().length).toBeGreaterThan(20)
  })

  it('filters by task, base models by all they are good at', async () => {
    await open([model('a'), model('b', { task: 'summarization' })])
    await user.click(screen.getByRole('radio', { name: 'Summarize' }))
    expect([...rows()].map((row) => row.getAttribute('data-id'))).toEqual(['b', 'modelforge/starter'])
  })

  it('says what will be here when there is nothing', async () => {
    host = at.host = hostWith([])
    host.answers.finetune_catalogue = () => ({ possible: [] })
    render(Page, { params: [] })
    expect(await screen.findByText('No models yet')).toBeInTheDocument()
    expect(await violations()).toEqual([])
  })
})

describe('a model', () => {
  it('shows its metrics and the settings that were changed, all on demand', async () => {
    await open([model('a')])
    expect(await screen.findByText('0.0022')).toBeInTheDocument()
    expect(await screen.findByText('Rank (r)')).toBeInTheDocument()
    expect(screen.queryByText('Learning rate'), 'it has its default').toBeNull()
    await user.click(screen.getByRole('button', { name: 'Show all settings' }))
    expect(screen.getByText('Learning rate')).toBeInTheDocument()
  })

  it('that is not here is said to be so', async () => {
    await open([model('a')], { id: 'gone' })
    expect(screen.getByText('This model is not here')).toBeInTheDocument()
  })
})

describe('deleting', () => {
  it('names the size, starts on the safe button, and tells why it was refused', async () => {
    await open([model('a')])
    host.answers.models_delete = () => {
      throw new AppError(400, 'Model a is in use: it is answering or being pushed.')
    }
    await user.click((await screen.findAllByRole('button', { name: 'Delete' }))[0]!)
    const dialog = await screen.findByRole('alertdialog', { name: 'Delete Name of a?' })
    await waitFor(() => expect(within(dialog).getByRole('button', { name: 'Keep' })).toHaveFocus())
    await user.click(within(dialog).getByRole('button', { name: /^Delete 2.4.MB$/ }))
    expect(await within(dialog).findByText(/It is in use/)).toBeInTheDocument()
    expect(await violations()).toEqual([])
  })
})

describe('pushing', () => {
  const signedIn = { source: 'keychain', account: { name: 'pia', fullname: null, kind: 'user', organizations: ['bikes'], token_role: 'write' } }

  it('without a token leads to the settings', async () => {
    await open([model('a')], { id: 'a', query: 'push=1' })
    host.answers.hub_whoami = () => ({ source: 'none', account: null })
    await user.click(await screen.findByRole('button', { name: 'Try again' }))
    expect(await screen.findByRole('link', { name: 'Sign in in settings' })).toHaveAttribute('href', '#/settings/hub')
  })

  it('goes to a private repository of the account, and tells when the name is taken', async () => {
    host = at.host = hostWith([])
    await open([model('a', { name: 'Über slips' })], { id: 'a' })
    host.answers.hub_whoami = () => signedIn
    router.query = new URLSearchParams('push=1')
    const dialog = await screen.findByRole('dialog')
    expect(await within(dialog).findByLabelText('Repository')).toHaveValue('Uber-slips')
    await user.click(within(dialog).getByRole('button', { name: 'Push to Hub' }))
    const push = () => host.streams.filter((one) => one.op === 'hub_upload').at(-1)!
    expect(push().input).toEqual({ model_id: 'a', repo_name: 'pia/Uber-slips', private: true, merged: false, into_existing: false })
    push().feed({ type: 'exists', repository: 'pia/Uber-slips' })
    await push().end()
    expect(await within(dialog).findByText(/is there already/)).toBeInTheDocument()
    expect(await violations()).toEqual([])
    await user.clear(within(dialog).getByLabelText('Repository'))
    await user.type(within(dialog).getByLabelText('Repository'), 'not a name')
    expect(within(dialog).getByText(/Use letters, digits/)).toBeInTheDocument()
    expect(within(dialog).getByRole('button', { name: 'Push to Hub' })).toBeDisabled()
    expect(await violations()).toEqual([])
  })

  it('of the whole model tells how far it is, can be cancelled, and what the Hub has in the end', async () => {
    host = at.host = hostWith([])
    await open([model('a', { name: 'Slips' })], { id: 'a' })
    host.answers.hub_whoami = () => signedIn
    router.query = new URLSearchParams('push=1')
    const dialog = await screen.findByRole('dialog')
    await user.click(await within(dialog).findByRole('radio', { name: 'Whole model' }))
    await user.click(within(dialog).getByRole('button', { name: 'Push to Hub' }))
    const push = () => host.streams.filter((one) => one.op === 'hub_upload').at(-1)!
    expect(push().input.merged).toBe(true)
    push().feed({ type: 'merging', done: 1_000_000, total: 4_000_000 })
    expect(await within(dialog).findByText(/Merging: 1.0.MB of 4.0.MB/)).toBeInTheDocument()
    push().feed({ type: 'sending', file: 'model.safetensors', done: 2_000_000, total: 4_000_000 })
    expect(await within(dialog).findByRole('progressbar', { name: 'Uploading' })).toHaveAttribute('aria-valuenow', '50')
    await user.click(within(dialog).getByRole('button', { name: 'Cancel the push' }))
    expect(push().aborted).toBe(true)
    expect(await within(dialog).findByText(/is not sent again/)).toBeInTheDocument()
    await user.click(within(dialog).getByRole('button', { name: 'Push to Hub' }))
    push().feed({ type: 'done', repo_url: 'http://hub/pia/Slips', commit: 'c', files: 7, bytes: 4_000_000 })
    await push().end()
    expect(await within(dialog).findByText(/Files compared with the Hub: 7/)).toBeInTheDocument()
    expect(await violations()).toEqual([])
  })
})
