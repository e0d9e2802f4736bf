import { fireEvent, render, screen, waitFor } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { createRawSnippet } from 'svelte'
import { describe, expect, it, vi } from 'vitest'
import AsyncView from './AsyncView.svelte'
import Button from './Button.svelte'
import ConfirmDialog from './ConfirmDialog.svelte'
import MemoryBar from './MemoryBar.svelte'
import Menu from './Menu.svelte'
import NumberInput from './NumberInput.svelte'
import Progress from './Progress.svelte'
import Segmented from './Segmented.svelte'
import Sheet from './test/Sheet.svelte'

const text = (content: string) => createRawSnippet(() => ({ render: () => `<span>${content}</span>` }))

describe('all components', () => {
  it('have no violation that axe finds', async () => {
    const { container } = render(Sheet)
    // jsdom has no layout, so contrast is measured in a browser.
    const { violations } = await axe.run(container, { rules: { 'color-contrast': { enabled: false } } })
    expect(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])).toEqual([])
  })
})

describe('a button', () => {
  it('takes no click while it is busy, and says that it is', async () => {
    const onclick = vi.fn()
    render(Button, { busy: true, onclick, children: text('Start') })
    const button = screen.getByRole('button', { name: 'Start' })
    await fireEvent.click(button)
    expect(onclick).not.toHaveBeenCalled()
    expect(button).toHaveAttribute('aria-busy', 'true')
  })

  it('is a link where it leads somewhere', () => {
    render(Button, { href: '#/runs', children: text('Runs') })
    expect(screen.getByRole('link', { name: 'Runs' })).toHaveAttribute('href', '#/runs')
  })

  it('without text is named by its label', () => {
    render(Button, { icon: 'copy', label: 'Copy' })
    expect(screen.getByRole('button', { name: 'Copy' })).toBeVisible()
  })
})

describe('a segmented control', () => {
  const options = [
    { value: 'a', label: 'Linear' },
    { value: 'b', label: 'Log', disabled: true },
    { value: 'c', label: 'Auto' },
  ]

  it('is one stop, and arrow keys move and choose', async () => {
    const onchange = vi.fn()
    render(Segmented, { options, value: 'a', label: 'Scale', onchange })
    await userEvent.tab()
    expect(screen.getByRole('radio', { name: 'Linear' })).toHaveFocus()
    await userEvent.keyboard('{ArrowRight}')
    expect(onchange, 'what cannot be chosen is passed over').toHaveBeenLastCalledWith('c')
    expect(screen.getByRole('radio', { name: 'Auto' })).toHaveFocus()
    await userEvent.keyboard('{ArrowRight}')
    expect(onchange, 'the last is followed by the first').toHaveBeenLastCalledWith('a')
    await userEvent.tab()
    expect(document.body, 'a group is left with one press').toHaveFocus()
  })
})

describe('a number', () => {
  it('is read as machine learning writes it, and only whole numbers are given on', async () => {
    const onchange = vi.fn()
    render(NumberInput, { value: 0.0002, onchange, 'aria-label': 'Rate' })
    const input = screen.getByRole('textbox', { name: 'Rate' })
    expect(input).toHaveValue('2e-4')
    await userEvent.clear(input)
    expect(input, 'an empty field is wrong where a number must be').toHaveAttribute('aria-invalid', 'true')
    await userEvent.type(input, '5e')
    expect(onchange).toHaveBeenLastCalledWith(5)
    await userEvent.type(input, '-5')
    expect(onchange).toHaveBeenLastCalledWith(0.00005)
    await userEvent.tab()
    expect(input, 'what was typed is written in one way').toHaveValue('5e-5')
  })

  it('moves by arrow keys within its range', async () => {
    const onchange = vi.fn()
    render(NumberInput, { value: 0.9, step: 0.1, max: 1, onchange, 'aria-label': 'p' })
    await userEvent.type(screen.getByRole('textbox'), '{ArrowUp}{ArrowUp}')
    expect(onchange.mock.calls, 'steps do not gather rounding errors').toEqual([[1]])
  })
})

describe('a dialog that asks', () => {
  it('starts on the safe answer, tells why the act failed, and closes when it is done', async () => {
    const onconfirm = vi.fn().mockRejectedValueOnce(new Error('The disk is full.')).mockResolvedValueOnce(undefined)
    render(ConfirmDialog, { open: true, title: 'Delete it?', text: 'For good.', action: 'Delete 3 MB', onconfirm })
    expect(await screen.findByRole('alertdialog', { name: 'Delete it?' })).toBeVisible()
    await waitFor(() => expect(screen.getByRole('button', { name: 'Keep' })).toHaveFocus())
    await userEvent.click(screen.getByRole('button', { name: 'Delete 3 MB' }))
    expect(await screen.findByText('The disk is full.')).toBeVisible()
    await userEvent.click(screen.getByRole('button', { name: 'Delete 3 MB' }))
    await waitFor(() => expect(screen.queryByRole('alertdialog')).toBeNull())
  })

  it('closes by Escape without the act', async () => {
    const onconfirm = vi.fn()
    render(ConfirmDialog, { open: true, title: 'Delete it?', action: 'Delete', onconfirm })
    await screen.findByRole('alertdialog')
    await userEvent.keyboard('{Escape}')
    await waitFor(() => expect(screen.queryByRole('alertdialog')).toBeNull())
    expect(onconfirm).not.toHaveBeenCalled()
  })
})

describe('a menu', () => {
  it('opens and chooses by keyboard; what destroys comes last', async () => {
    const [keep, discard] = [vi.fn(), vi.fn()]
    const items = [
      { label: 'Discard', danger: true, onselect: discard },
      { label: 'Keep', hint: 'Saves it', onselect: keep },
    ]
    render(Menu, { items, label: 'Stop' })
    screen.getByRole('button', { name: 'Stop' }).focus()
    await userEvent.keyboard('{Enter}')
    const entries = await screen.findAllByRole('menuitem', { hidden: true })
    expect(entries.map((entry) => entry.textContent?.trim())).toEqual(['Keep Saves it', 'Discard'])
    await waitFor(() => expect(entries[0]).toHaveFocus())
    await userEvent.keyboard('{Enter}')
    expect(keep).toHaveBeenCalledOnce()
    await waitFor(() => expect(screen.getByRole('button', { name: 'Stop' }), 'the focus goes back').toHaveFocus())
  })
})

describe('what is told of progress and memory', () => {
  it('names how much is done, or only that something is', async () => {
    const { rerender } = render(Progress, { label: 'Download', value: 7.4, max: 16.1, text: '7.4 of 16.1 GB' })
    const bar = screen.getByRole('progressbar', { name: 'Download' })
    expect(bar).toHaveAttribute('aria-valuenow', '46')
    await rerender({ label: 'Download', value: null })
    expect(bar, 'an unknown length has no value').not.toHaveAttribute('aria-valuenow')
  })

  it('puts every value of the memory into words', () => {
    const parts = { weights: 6e9, adapter: 0, optimizer: 1.3e9, activations: 1.9e9, other: 0.5e9 }
    render(MemoryBar, { parts, total: 12e9 })
    const name = screen.getByRole('img').getAttribute('aria-label')?.replaceAll('\u00a0', ' ')
    expect(name).toBe('9.7 GB of 12.0 GB used: Weights 6.0 GB, Optimizer 1.3 GB, Activations 1.9 GB, Other apps 500 MB')
  })
})

describe('what is loaded', () => {
  const children = text('the rows')
  const empty = text('nothing yet')

  it('shows its content, or what to do where there is none', async () => {
    const { rerender } = render(AsyncView, { state: { loading: false, error: null, list: [1] }, children, empty })
    expect(screen.getByText('the rows')).toBeVisible()
    await rerender({ state: { loading: false, error: null, list: [] }, children, empty })
    expect(screen.getByText('nothing yet')).toBeVisible()
    expect(screen.queryByText('the rows')).toBeNull()
  })

  it('shows a skeleton only where loading takes a while', async () => {
    vi.useFakeTimers()
    render(AsyncView, { state: { loading: true, error: null, list: [] }, children, empty })
    expect(screen.queryByRole('status')).toBeNull()
    await vi.advanceTimersByTimeAsync(400)
    expect(screen.getByRole('status', { name: 'Loading' })).toBeVisible()
    vi.useRealTimers()
  })

  it('says why it failed and tries again, and keeps what was there', async () => {
    const refresh = vi.fn()
    render(AsyncView, { state: { loading: false, error: new Error('The disk is gone.'), list: [1], refresh }, children, empty })
    expect(screen.getByRole('alert')).toHaveTextContent('The disk is gone.')
    expect(screen.getByText('the rows')).toBeVisible()
    await userEvent.click(screen.getByRole('button', { name: 'Try again' }))
    expect(refresh).toHaveBeenCalledOnce()
  })
})
