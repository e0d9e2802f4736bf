import { render, screen, waitFor, within } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AppError } from '../../api/client'
import { platform } from '../../platform'
import type { Shell } from '../../platform/types'
import { settings } from '../../state'
import Page from './Page.svelte'

const SETTINGS = { theme: 'light', language: 'en', offline: false, hub_endpoint: null, compute_on: 'auto', unload_after_minutes: 15 }

const NO_CARDS = { driver_version: null, cuda_version: null, cards: [], engine: false, computes_on: null, reason: null }

const card = (index: number, more = {}) => ({
  index, uuid: `GPU-${index}`, name: 'NVIDIA GeForce RTX 4060', memory_total_bytes: 8e9, memory_free_bytes: 7e9,
  compute_capability: '8.9', processes: [], problem: null, ...more,
})

let answers: Record<string, unknown>
let asked: { op: string; input: unknown }[]

beforeEach(async () => {
  asked = []
  answers = {
    settings_get: SETTINGS,
    hub_whoami: { source: 'none', account: null },
    hub_token_places: [
      { place: 'keychain', state: 'locked' },
      { place: 'memory', state: 'empty' },
      { place: 'file', state: 'exposed' },
      { place: 'environment', state: 'in_use' },
      { place: 'python_login', state: 'another' },
    ],
    storage_usage: {
      home: '/data/x/ModelForge', models_bytes: 3e6, runs_bytes: 5e6, datasets_bytes: 0, database_bytes: 1e5,
      cache: '/data/x/.cache/huggingface/hub', cache_bytes: 0, cached: [],
    },
    finetune_hardware_specs: { gpu_name: 'No GPU detected', gpu_memory_gb: 0, ram_gb: 16, disk_space_gb: 50, cpu_cores: 4 },
    hardware_cards: NO_CARDS,
    finetune_catalogue: { possible: [] },
    models_list: [],
    playground_status: { model_id: null, model: null, answering: false },
    app_info: { name: 'ModelForge', version: '0.1.0', os: 'linux', arch: 'x86_64', home: '/data/x', damaged_database: null },
  }
  localStorage.clear()
  vi.spyOn(platform, 'call').mockImplementation((op, input) => {
    asked.push({ op, input })
    const answer = answers[op]
    if (answer instanceof AppError) return Promise.reject(answer)
    return op in answers ? Promise.resolve(answer as never) : Promise.reject(new AppError(500, `no ${op}`))
  })
  await settings.refresh()
})

afterEach(() => {
  vi.restoreAllMocks()
  Object.assign(platform, { shell: undefined })
})

async function open(): Promise<HTMLElement> {
  const { container } = render(Page, { params: [] })
  await screen.findByText('ModelForge 0.1.0')
  return container
}

async function problems(container: HTMLElement): Promise<string[]> {
  // Colours are not computed here; landmarks belong to the frame around the page.
  const { violations } = await axe.run(container, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
  return violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)
}

/** The settings that were sent last. */
const sent = (): unknown => asked.findLast(({ op }) => op === 'settings_set')?.input

test('every section is reachable and free of accessibility problems', async () => {
  const container = await open()
  const links = within(screen.getByRole('navigation', { name: 'Sections' })).getAllByRole('link')
  for (const link of links) expect(container.querySelector(`#${link.getAttribute('href')?.split('/').at(-1)}`)).not.toBeNull()
  expect(links.map((link) => link.textContent), 'a browser has no server to start').not.toContain('Local server')
  expect(await problems(container)).toEqual([])
})

test('where a token is looked for is told, in the order that counts', async () => {
  const container = await open()
  const places = within(await screen.findByText('Where a token is looked for').then((summary) => summary.parentElement!)).getAllByRole('listitem')
  expect(places.map((place) => place.textContent?.trim().replace(/\s+/g, ' '))).toEqual([
    'System keychain Locked',
    'Memory, until ModelForge ends Nothing',
    'File in the app’s data folder Not trusted: others can read it',
    'HF_TOKEN environment variable In use',
    'Login of the Hub’s Python tools Has one too',
  ])
  expect(await problems(container)).toEqual([])
})

describe('a switch', () => {
  test('applies at once', async () => {
    await open()
    answers.settings_set = { ...SETTINGS, offline: true }
    await userEvent.click(screen.getByRole('switch', { name: 'Work offline' }))
    await waitFor(() => expect(screen.getByRole('switch', { name: 'Work offline' })).toBeChecked())
    expect(sent()).toMatchObject({ offline: true })
  })

  test('that could not be turned shows how things are', async () => {
    await open()
    answers.settings_set = new AppError(500, 'the database is locked')
    await userEvent.click(screen.getByRole('switch', { name: 'Work offline' }))
    expect(await screen.findByRole('alert')).toHaveTextContent('the database is locked')
    expect(screen.getByRole('switch', { name: 'Work offline' })).not.toBeChecked()
  })
})

describe('cards', () => {
  const TWO = {
    driver_version: '580.82.07', cuda_version: '13.0', engine: true, computes_on: 'GPU-1', reason: null,
    cards: [card(0, { processes: [{ pid: 7, name: 'blender', memory_bytes: 5e8 }, { pid: 8, name: null, memory_bytes: null }] }), card(1)],
  }

  test('none is a plain word', async () => {
    await open()
    expect(await screen.findByText('No NVIDIA card')).toBeVisible()
    expect(screen.queryByRole('combobox', { name: 'Train and chat on' }), 'there is nothing to choose').toBeNull()
  })

  test('are listed with what uses them, and one is chosen', async () => {
    answers.hardware_cards = TWO
    const container = await open()
    const list = await screen.findByRole('combobox', { name: 'Train and chat on' })
    expect(within(list).getAllByRole('option').map((option) => option.textContent)).toEqual([
      'Automatic', 'NVIDIA GeForce RTX 4060 (no. 0)', 'NVIDIA GeForce RTX 4060 (no. 1)', 'Processor only',
    ])
    expect(screen.getByText(/In use by blender \(500.MB\), process 8/)).toBeVisible()
    expect(await screen.findAllByText(/7\.0.GB of 8\.0.GB free/)).toHaveLength(2)
    expect(screen.getByText('Driver 580.82.07, CUDA 13.0')).toBeVisible()
    expect(await problems(container)).toEqual([])
    answers.settings_set = { ...SETTINGS, compute_on: 'GPU-0' }
    answers.hardware_cards = { ...TWO, computes_on: 'GPU-0' }
    await userEvent.selectOptions(list, 'GPU-0')
    await waitFor(() => expect(sent()).toMatchObject({ compute_on: 'GPU-0' }))
    await waitFor(() => expect(list).toHaveValue('GPU-0'))
  })

  test('that cannot be computed on have a reason', async () => {
    answers.hardware_cards = { ...TWO, computes_on: null, reason: 'the NVIDIA driver is version 535, and 580 or later is needed' }
    await open()
    expect(await screen.findByText(/535, and 580 or later/)).toBeVisible()
    expect(screen.getByText(/Runs are computed on the processor/)).toBeVisible()
  })
})

test('a language is chosen by its own name', async () => {
  await open()
  answers.settings_set = { ...SETTINGS, language: 'fr' }
  const list = screen.getByRole('combobox', { name: 'Language' })
  expect(within(list).getAllByRole('option').map((option) => option.textContent)).toEqual([
    'System (English)', 'English', '中文', 'Español', 'Français', 'Deutsch', 'हिन्दी',
  ])
  await userEvent.selectOptions(list, 'Français')
  await waitFor(() => expect(sent()).toMatchObject({ language: 'fr' }))
  expect(await screen.findByRole('heading', { name: 'Réglages' })).toBeVisible()
  answers.settings_set = SETTINGS
  await settings.set({ language: 'en' })
})

test('an address that is none says what is wrong beside it', async () => {
  await open()
  await userEvent.click(screen.getByText('Advanced'))
  answers.settings_set = new AppError(422, [{ loc: ['body', 'hub_endpoint'], msg: 'must be an http address', type: 'value_error' }])
  const field = screen.getByLabelText('Hub address')
  await userEvent.type(field, 'http://x')
  await userEvent.click(screen.getByRole('button', { name: 'Save' }))
  expect(await screen.findByText(/must be an http address/)).toBeVisible()
  expect(field, 'what was typed stays').toHaveValue('http://x')
  answers.settings_set = { ...SETTINGS, hub_endpoint: 'http://x' }
  await userEvent.click(screen.getByRole('button', { name: 'Save' }))
  await waitFor(() => expect(screen.getByRole('button', { name: 'Save' }), 'nothing is left to save').toBeDisabled())
})

test('signing in takes the focus to the field, and a token never stays on screen', async () => {
  const container = await open()
  await userEvent.click(screen.getByRole('button', { name: 'Sign in' }))
  const field = screen.getByLabelText('Access token')
  await waitFor(() => expect(field).toHaveFocus())
  expect(field).toHaveAttribute('type', 'password')
  expect(await problems(container)).toEqual([])
  answers.hub_set_token = { source: 'keychain' }
  answers.hub_whoami = {
    source: 'keychain',
    account: { name: 'anna', fullname: null, kind: 'user', organizations: [], token_role: 'write' },
  }
  await userEvent.type(field, 'hf_secret{Enter}')
  expect(await screen.findByText('anna')).toBeVisible()
  expect(screen.getByText('May read and write. The token is in the system keychain.')).toBeVisible()
  expect(screen.queryByLabelText('Access token')).toBeNull()
})

test('in the desktop window the server is turned on, and its key is shown only when asked for', async () => {
  const off = { running: false, url: null, token: null }
  const on = { running: true, url: 'http://127.0.0.1:8765', token: 'k3y' }
  const shell = {
    serverStatus: () => Promise.resolve(off),
    serverStart: vi.fn(() => Promise.resolve(on)),
    serverStop: () => Promise.resolve(off),
  } satisfies Partial<Shell>
  Object.assign(platform, { shell })
  const container = await open()
  await userEvent.click(await screen.findByRole('switch', { name: /Let other apps/ }))
  expect(shell.serverStart).toHaveBeenCalledWith(8765)
  expect(await screen.findByText('http://127.0.0.1:8765')).toBeVisible()
  expect(screen.queryByText('k3y')).toBeNull()
  await userEvent.click(screen.getByRole('button', { name: 'Show key' }))
  expect(screen.getByText('k3y')).toBeVisible()
  expect(await problems(container)).toEqual([])
})
