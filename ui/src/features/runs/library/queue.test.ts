import { render, screen, waitFor, within } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Run } from '../../../api/generated'
import { FakePlatform, run } from '../test/platform'

const host = vi.hoisted(() => ({ platform: null as FakePlatform | null }))
vi.mock('../../../platform', () => ({
  get platform() {
    return host.platform
  },
}))

import { runs } from '../../../state'
import Queue from './Queue.svelte'

vi.setConfig({ testTimeout: 30_000 })

/** A backend with a run that computes and these that wait. */
function backend(names: string[], held = false): FakePlatform {
  const platform = new FakePlatform()
  let order = names
  const waiting = (): Run[] => order.map((name, at) => run({ job_id: `train_${name}`, name, status: 'queued', place: at + 1, step: name === 'paused' ? 40 : 0 }))
  Object.assign(platform.answers, {
    runs_list: () => [run({ name: 'Now', place: null }), ...waiting().reverse()],
    queue_get: () => ({ held, runs: order.map((name) => `train_${name}`) }),
    queue_place: ({ job_id, place }: { job_id: string; place: number }) => {
      const name = job_id.slice('train_'.length)
      order = order.filter((other) => other !== name).toSpliced(place - 1, 0, name)
      return { success: true, message: '' }
    },
    queue_remove: ({ job_id }: { job_id: string }) => {
      order = order.filter((name) => `train_${name}` !== job_id)
      return { success: true, message: '' }
    },
    queue_hold: (input: { held: boolean }) => ((held = input.held), { success: true, message: '' }),
  })
  return platform
}

async function open(names: string[], held = false) {
  host.platform = backend(names, held)
  await runs.refresh()
  render(Queue)
  return { user: userEvent.setup(), platform: host.platform }
}

const shown = (): string[] => screen.getAllByRole('listitem').map((item) => within(item).getByRole('link').textContent ?? '')

beforeEach(() => Object.assign(runs, { list: [], loading: true, error: null }))
afterEach(() => (document.body.innerHTML = ''))

describe('the queue', () => {
  it('shows who waits, in order, and what for', async () => {
    await open(['a', 'b', 'paused'])
    expect(screen.getByRole('heading', { name: '3 runs wait' })).toBeVisible()
    expect(shown()).toEqual(['a', 'b', 'paused'])
    expect(screen.getByText('The first starts when Now is done')).toBeVisible()
    const { violations } = await axe.run(document.body, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
    expect(violations.map((one) => one.id)).toEqual([])
  })

  it('is moved by its buttons, and says so', async () => {
    const { user, platform } = await open(['a', 'b', 'c'])
    expect(screen.getByRole('button', { name: 'Move a up' })).toBeDisabled()
    expect(screen.getByRole('button', { name: 'Move c down' })).toBeDisabled()
    await user.click(screen.getByRole('button', { name: 'Move c up' }))
    await waitFor(() => expect(shown()).toEqual(['a', 'c', 'b']))
    expect(platform.asked).toContainEqual({ op: 'queue_place', input: { job_id: 'train_c', place: 2 } })
    expect(screen.getByText('c is at place 2 now')).toBeInTheDocument()
  })

  it('asks before it takes out what was never begun, and only then', async () => {
    const { user, platform } = await open(['a', 'paused'])
    await user.click(screen.getByRole('button', { name: 'Take a out of the queue' }))
    const dialog = await screen.findByRole('alertdialog', { hidden: true })
    expect(dialog).toHaveTextContent('It has not begun.')
    expect(platform.asked.some(({ op }) => op === 'queue_remove')).toBe(false)
    await user.click(within(dialog).getByRole('button', { name: 'Take it out' }))
    await waitFor(() => expect(shown()).toEqual(['paused']))
    await waitFor(() => expect(screen.queryByRole('alertdialog')).toBeNull())
    await user.click(screen.getByRole('button', { name: 'Take paused out of the queue', hidden: true }))
    await waitFor(() => expect(runs.queued).toHaveLength(0))
  })

  it('tells that it is held, and goes on when told to', async () => {
    const { user, platform } = await open(['a'], true)
    expect(screen.getByText('The queue is on hold.')).toBeVisible()
    await user.click(screen.getByRole('button', { name: 'Continue the queue' }))
    await waitFor(() => expect(screen.queryByText('The queue is on hold.')).toBeNull())
    expect(platform.asked).toContainEqual({ op: 'queue_hold', input: { held: false } })
  })

  it('says why a change was refused', async () => {
    const { user, platform } = await open(['a', 'b'])
    platform.answers.queue_place = () => {
      throw new Error('train_b does not wait in the queue')
    }
    await user.click(screen.getByRole('button', { name: 'Move b up' }))
    expect(await screen.findByText('train_b does not wait in the queue')).toBeVisible()
    expect(shown()).toEqual(['a', 'b'])
  })
})
