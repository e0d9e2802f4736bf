import { render, screen, waitFor } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import App from '../App.svelte'
import { AppError } from '../api/client'
import { platform } from '../platform'
import { access } from '../platform/access.svelte'
import * as routes from '../routes'
import { settings } from '../state'

const SETTINGS = { theme: 'dark', language: 'en', offline: false, hub_endpoint: null, unload_after_minutes: 10 }
const RUN = { job_id: 'train_1', name: 'Slips', status: 'running', step: 31, total_steps: 50 }

vi.mock('../routes', async (original) => {
  const real = await original<typeof routes>()
  return { ...real, load: vi.fn(real.load) }
})

let answers: Record<string, unknown>

beforeEach(() => {
  location.hash = '#/nowhere'
  settings.value = null
  settings.error = null
  answers = { settings_get: SETTINGS, runs_list: [RUN], runs_get: { ...RUN, spec: {} } }
  vi.spyOn(platform, 'stream').mockRejectedValue(new AppError(404, ''))
  vi.spyOn(platform, 'call').mockImplementation(((op: string) => {
    const answer = answers[op]
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer ?? [])
  }) as never)
})

describe('the frame', () => {
  it('shows how far the run is, takes on the colours, and has no violation that axe finds', async () => {
    const { container } = render(App)
    const link = await screen.findByRole('link', { name: /one running, 62/ })
    expect(link).toHaveAttribute('href', '#/runs')
    expect(document.documentElement.dataset.theme).toBe('dark')
    expect(screen.getByText('There is no such page'), 'an unknown address says so').toBeVisible()
    const { violations } = await axe.run(container, { rules: { 'color-contrast': { enabled: false } } })
    expect(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])).toEqual([])
  })

  it('goes to screens by keys, and lists the keys', async () => {
    vi.mocked(routes.load).mockReturnValue(new Promise(() => {}))
    render(App)
    await screen.findByRole('navigation', { name: 'Main' })
    await userEvent.keyboard('{Control>}4{/Control}')
    await waitFor(() => expect(location.hash).toBe('#/models'))
    await waitFor(() => expect(screen.getByRole('link', { name: 'Models' })).toHaveAttribute('aria-current', 'page'))
    await userEvent.keyboard('?')
    expect(await screen.findByRole('dialog', { name: 'Keyboard' })).toBeVisible()
  })

  it('says that a screen cannot be shown, with the details, and keeps the rest', async () => {
    vi.mocked(routes.load).mockRejectedValue(new Error('chunk 7 is gone'))
    location.hash = '#/models'
    render(App)
    expect(await screen.findByText('This screen has a problem.')).toBeVisible()
    expect(screen.getByText(/chunk 7 is gone/)).toBeInTheDocument()
    expect(screen.getByRole('button', { name: 'Reload' })).toBeVisible()
    expect(screen.getByRole('link', { name: 'Chat' }), 'the way on is still there').toBeVisible()
  })
})

describe('the start', () => {
  it('says that the backend does not answer, and tries again', async () => {
    answers.settings_get = new AppError(0, '')
    render(App)
    expect(await screen.findByRole('heading', { name: 'ModelForge does not answer' })).toBeVisible()
    answers.settings_get = SETTINGS
    await userEvent.click(screen.getByRole('button', { name: 'Try again' }))
    expect(await screen.findByRole('navigation', { name: 'Main' })).toBeVisible()
  })

  it('asks for the token of a protected server', async () => {
    render(App)
    const token = access.ask(null)
    const field = await screen.findByLabelText('Token')
    await waitFor(() => expect(field).toHaveFocus())
    await userEvent.type(field, 'sixteen-letters-{Enter}')
    expect(await token).toBe('sixteen-letters-')
    expect(await screen.findByRole('navigation', { name: 'Main' })).toBeVisible()
  })
})
