import { render, screen, waitFor } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { Shell } from '../platform'
import { menuTexts } from './menu-texts'
import Desktop from './Desktop.svelte'

let told: { menu: (id: string) => void; close: () => void; open: (paths: string[]) => void }
const shell = {
  ready: vi.fn(() => Promise.resolve<string[]>([])),
  texts: vi.fn(() => Promise.resolve(true)),
  progress: vi.fn(() => Promise.resolve()),
  close: vi.fn(() => Promise.resolve()),
  report: vi.fn(),
  openLog: vi.fn(() => Promise.resolve()),
  onMenu: (menu) => ((told.menu = menu), () => {}),
  onCloseAsked: (close) => ((told.close = close), () => {}),
  onOpenDatasets: (open) => ((told.open = open), () => {}),
  zoom: vi.fn(() => Promise.resolve()),
  serverStatus: vi.fn(),
  serverStart: vi.fn(),
  serverStop: vi.fn(),
} satisfies Shell

beforeEach(() => {
  told = { menu: () => {}, close: () => {}, open: () => {} }
  location.hash = '#/start'
  localStorage.clear()
  shell.texts.mockImplementation(() => Promise.resolve(true))
  shell.ready.mockImplementation(() => Promise.resolve([]))
  shell.progress.mockImplementation(() => Promise.resolve())
  shell.close.mockImplementation(() => Promise.resolve())
  shell.zoom.mockImplementation(() => Promise.resolve())
})

describe('the desktop window', () => {
  it('has every menu text in words', () => {
    for (const [id, text] of Object.entries(menuTexts())) expect(text, `${id} has a text`).not.toMatch(/^common\./)
  })

  it('does what the menus say, and keeps the size of everything', async () => {
    const onkeys = vi.fn()
    render(Desktop, { shell, onkeys })
    told.menu('models')
    await waitFor(() => expect(location.hash).toBe('#/models'))
    told.menu('keys')
    expect(onkeys).toHaveBeenCalledOnce()
    told.menu('zoom_in')
    told.menu('zoom_in')
    expect(shell.zoom).toHaveBeenLastCalledWith(1.2)
    expect(localStorage.getItem('modelforge.zoom')).toBe('1.2')
    told.menu('zoom_reset')
    expect(shell.zoom).toHaveBeenLastCalledWith(1)
  })

  it('opens a dataset in the wizard', async () => {
    render(Desktop, { shell, onkeys: () => {} })
    told.open(['/data/rows.jsonl'])
    await waitFor(() => expect(location.hash).toBe('#/tune'))
    expect(sessionStorage.getItem('modelforge.again')).toBe('{"dataset":"/data/rows.jsonl"}')
  })

  it('asks what is to become of the run when it is closed, and says what went wrong', async () => {
    render(Desktop, { shell, onkeys: () => {} })
    await waitFor(() => expect(shell.texts).toHaveBeenCalled())
    told.close()
    expect(await screen.findByRole('alertdialog', { name: 'Training is under way' })).toBeVisible()
    shell.close.mockRejectedValueOnce(new Error('The run does not pause.'))
    await userEvent.click(screen.getByRole('button', { name: 'Pause and quit' }))
    expect(await screen.findByText('The run does not pause.')).toBeVisible()
    await userEvent.click(screen.getByRole('button', { name: 'Keep training in the background' }))
    expect(shell.close).toHaveBeenLastCalledWith('background')
    await waitFor(() => expect(screen.queryByRole('alertdialog')).toBeNull())
  })
})
