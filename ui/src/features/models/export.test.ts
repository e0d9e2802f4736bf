import { render, screen, within } from '@testing-library/svelte'
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

import { AppError } from '../../platform/error'
import { hostWith, model, settled } from '../../test/host'
import { ofModel } from './entries'
import { exports } from './export.svelte'
import ExportDialog from './ExportDialog.svelte'

vi.setConfig({ testTimeout: 30_000 })
const user = userEvent.setup()
const entry = ofModel(model('model_1', { name: 'Slips' }))
let host: FakeHost

beforeEach(() => {
  host = at.host = hostWith([])
  for (const one of exports.list) exports.forget(one)
})

const stream = () => host.streams.at(-1)!
const done = { type: 'done', path: '/models/model_1/export.gguf', bytes: 12_400_000, checked: true }

describe('an export', () => {
  it('asks for the program rather than the format, and tells the size as it goes', async () => {
    render(ExportDialog, { entry, open: true, onclose: () => {} })
    const dialog = await screen.findByRole('dialog', { name: 'Export Slips' })
    expect(within(dialog).getByRole('radio', { name: /Ollama/ })).toBeChecked()
    await user.type(within(dialog).getByLabelText('Destination'), '/srv/out')
    await user.click(within(dialog).getByRole('button', { name: 'Export' }))
    expect(stream().input).toEqual({ model_id: 'model_1', format: 'gguf', dtype: 'q8_0', folder: '/srv/out' })
    stream().feed({ type: 'progress', done: 6_200_000, total: 12_400_000 })
    expect(await within(dialog).findByRole('progressbar')).toHaveAttribute('aria-valuenow', '50')
    stream().feed(done)
    await stream().end()
    expect(await within(dialog).findByText(/Exported, answers match, 12.4.MB/)).toBeInTheDocument()
    expect(within(dialog).getByText('/models/model_1/export.gguf')).toBeInTheDocument()
    const { violations } = await axe.run(document.body, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
    expect(violations.map(({ id }) => id)).toEqual([])
  })

  it('offers the precisions of the chosen format', async () => {
    render(ExportDialog, { entry, open: true, onclose: () => {} })
    await user.click(await screen.findByRole('radio', { name: /transformers/ }))
    expect(screen.getByLabelText('Precision')).toHaveValue('bf16')
    expect(screen.queryByRole('option', { name: /Q8_0/ }), 'no such safetensors').toBeNull()
  })

  it('ends when it is cancelled', async () => {
    render(ExportDialog, { entry, open: true, onclose: () => {} })
    await user.click(await screen.findByRole('button', { name: 'Export' }))
    await user.click(screen.getByRole('button', { name: 'Cancel' }))
    expect(stream().aborted).toBe(true)
    expect(await screen.findByText('Cancelled, nothing was left behind')).toBeInTheDocument()
  })

  it('goes on while its dialog is closed', async () => {
    const { rerender } = render(ExportDialog, { entry, open: true, onclose: () => {} })
    await user.click(await screen.findByRole('button', { name: 'Export' }))
    await rerender({ open: false })
    expect(stream().aborted).toBe(false)
    await rerender({ open: true })
    expect(await screen.findByRole('progressbar'), 'and is found again').toBeInTheDocument()
  })

  it('that failed says why and can be tried again', async () => {
    const one = exports.start('model_1', 'gguf', 'f16', null)
    await stream().fail(new AppError(500, 'No space left on the disk.'))
    await settled()
    expect([one.running, one.error?.message]).toEqual([false, 'No space left on the disk.'])
    exports.again(one)
    expect(stream().input, 'with the same choices').toEqual({ model_id: 'model_1', format: 'gguf', dtype: 'f16', folder: null })
    expect(exports.of('model_1'), 'in place of the failed one').toHaveLength(1)
  })
})
