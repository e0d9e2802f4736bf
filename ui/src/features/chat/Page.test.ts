import { cleanup, render, screen, waitFor } from '@testing-library/svelte'
import userEvent from '@testing-library/user-event'
import axe from 'axe-core'
import { flushSync } from 'svelte'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { FakeHost } from '../../test/host'

const at = vi.hoisted(() => ({ host: null as FakeHost | null }))
vi.mock('../../platform', () => ({
  get platform() {
    return at.host
  },
}))

import Markdown from '../../components/Markdown.svelte'
import { models } from '../../state'
import { baseModels } from '../../state/base-models.svelte'
import { hostWith, model, settled } from '../../test/host'
import { router } from '../../router.svelte'
import { chats } from './chats.svelte'
import Page from './Page.svelte'
import { Session } from './session.svelte'

const stats = { prompt_tokens: 9, tokens_generated: 20, prefill_ms: 100, generation_time_ms: 600, finish: 'eos' }
// Machines that run the tests may be slow.
vi.setConfig({ testTimeout: 30_000 })
const user = userEvent.setup()
let host: FakeHost

beforeEach(() => {
  localStorage.clear()
  location.hash = ''
  router.query = new URLSearchParams()
  for (const store of [models, baseModels]) Object.assign(store, { list: [], loading: true, error: null })
  chats.session = new Session()
})
afterEach(() => vi.unstubAllGlobals())

async function open(list = [model('model_1')], hash = ''): Promise<void> {
  host = at.host = hostWith(list)
  router.query = new URLSearchParams(hash)
  render(Page, { params: [] })
  await waitFor(() => expect(baseModels.loading || models.loading).toBe(false))
  await settled()
}

async function answer(text: string): Promise<void> {
  await waitFor(() => expect(host.streams.at(-1)?.aborted).toBe(false))
  host.streams.at(-1)!.feed({ type: 'done', text, stats })
  await host.streams.at(-1)!.end()
}

async function violations(): Promise<string[]> {
  // jsdom computes no colours; contrast is checked on the tokens.
  const { violations } = await axe.run(document.body, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } })
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`)
}

describe('a chat', () => {
  it('sends with Enter, begins a line with Shift and Enter, and shows the numbers', async () => {
    await open()
    const field = screen.getByPlaceholderText('Message Name of model_1')
    await user.type(field, 'One{Shift>}{Enter}{/Shift}two')
    expect(host.streams, 'nothing is sent yet').toHaveLength(0)
    await user.keyboard('{Enter}')
    await answer('Hi there.')
    expect(host.streams[0]!.input.messages).toEqual([{ role: 'user', content: 'One\ntwo' }])
    expect(await screen.findByText('Hi there.', { selector: 'p' })).toBeInTheDocument()
    expect(screen.getByText('20 tokens, 40 tokens/s'), 'the time to read is left out').toBeInTheDocument()
    expect(screen.getByText('29 of 512 tokens'), 'prompt and answer of the base model’s context').toBeInTheDocument()
    expect(field).toHaveValue('')
    expect(screen.getByText(/Name of model_1 has answered\. Hi there\./), 'read out when it is whole').toHaveAttribute('role', 'status')
    expect(await violations()).toEqual([])
  })

  it('ends an answer with Escape', async () => {
    await open()
    await user.type(screen.getByPlaceholderText('Message Name of model_1'), 'One{Enter}')
    await waitFor(() => expect(host.streams).toHaveLength(1))
    expect(screen.getByRole('button', { name: 'Stop' })).toBeInTheDocument()
    await user.keyboard('{Escape}')
    await waitFor(() => expect(host.streams[0]!.aborted).toBe(true))
    expect(await screen.findByText('No answer yet.')).toBeInTheDocument()
  })

  it('takes up the last question with the up key, and leaves it with Escape', async () => {
    await open()
    const field = screen.getByPlaceholderText('Message Name of model_1')
    await user.type(field, 'One{Enter}')
    await answer('1')
    await user.type(field, '{ArrowUp}')
    expect(field).toHaveValue('One')
    expect(screen.getByText(/What follows it will be replaced/)).toBeInTheDocument()
    await user.keyboard('{Escape}')
    expect(field).toHaveValue('')
    await user.keyboard('{ArrowUp} more{Enter}')
    await answer('2')
    expect(chats.session.turns.map(({ question }) => question)).toEqual(['One more'])
  })

  it('keeps what was typed and not sent', async () => {
    await open()
    await user.type(screen.getByPlaceholderText('Message Name of model_1'), 'Half a')
    expect(JSON.parse(localStorage.getItem('modelforge.chat.drafts') ?? '{}')).toEqual({ new: { text: 'Half a', context: '' } })
  })

  it('asks before a page is opened that a model wrote', async () => {
    await open()
    await user.type(screen.getByPlaceholderText('Message Name of model_1'), 'One{Enter}')
    await answer('See [this](https://example.org/x) or [that](javascript:alert(1)) <b>bold</b>')
    await user.click(await screen.findByRole('link', { name: 'this' }))
    expect(host.opened, 'not at once').toEqual([])
    expect(screen.queryByRole('link', { name: 'that' }), 'no script is a link').toBeNull()
    expect(document.querySelector('.markdown b'), 'HTML is text').toBeNull()
    await user.click(await screen.findByRole('button', { name: 'Open page' }))
    expect(host.opened).toEqual(['https://example.org/x'])
  })
})

describe('the address', () => {
  it('without a chat comes back to the one that was open', async () => {
    await open()
    await user.type(screen.getByPlaceholderText('Message Name of model_1'), 'One{Enter}')
    await answer('1')
    await waitFor(() => expect(location.hash, 'a chat that is kept has an address').toBe('#/chat/chat_1'))
    cleanup()
    location.hash = '#/chat'
    render(Page, { params: [] })
    expect(await screen.findByText('1', { selector: 'p' }), 'after another screen was looked at').toBeInTheDocument()
    await waitFor(() => expect(location.hash).toBe('#/chat/chat_1'))
    await user.click(screen.getByRole('button', { name: 'New chat' }))
    expect(screen.queryByText('1', { selector: 'p' })).toBeNull()
  })

  it('chooses the model and puts both side by side', async () => {
    await open([model('model_1'), model('model_2')], 'model=model_2&compare=1')
    expect(await screen.findByPlaceholderText('Ask both models the same thing')).toBeInTheDocument()
    expect(screen.getByText('ModelForge Starter')).toBeInTheDocument()
    expect(screen.getByRole('button', { name: 'Model: Name of model_2' })).toBeInTheDocument()
    expect(await violations()).toEqual([])
  })

  it('of a deleted model keeps what was said and asks for another', async () => {
    await open([model('model_1')], 'model=model_gone')
    expect(await screen.findByText('The model of this chat is not here any more.')).toBeInTheDocument()
    expect(screen.getByRole('button', { name: 'Send' })).toBeDisabled()
  })
})

describe('documents', () => {
  it('are asked about in a form, and the answer is marked in them', async () => {
    await open([model('model_1', { task: 'extractive-question-answering' })])
    await user.type(screen.getByLabelText('Text to look in'), 'Nils ordered. Pia did not.')
    await user.type(screen.getByLabelText('Question'), 'Who ordered?{Enter}')
    await answer('Nils')
    expect(await screen.findByText('Nils', { selector: 'mark' })).toBeInTheDocument()
    expect(host.streams[0]!.input).toMatchObject({ context: 'Nils ordered. Pia did not.' })
    expect(screen.getByLabelText('Text to look in'), 'the next question is about the same text').toHaveValue('Nils ordered. Pia did not.')
    expect(await violations()).toEqual([])
  })

  it('show the place and the score that a model tells, also that there is no answer', async () => {
    await open([model('model_1', { task: 'extractive-question-answering' })])
    await user.type(screen.getByLabelText('Text to look in'), 'One or two. Two or one.')
    await user.type(screen.getByLabelText('Question'), 'What comes first?{Enter}')
    const told = async (text: string, span: object): Promise<void> => {
      host.streams.at(-1)!.feed({ type: 'done', text, stats: { ...stats, span } })
      await host.streams.at(-1)!.end()
    }
    await waitFor(() => expect(host.streams).toHaveLength(1))
    await told('one', { start: 19, end: 22, score: 0.75, no_answer_score: 0.1 })
    const mark = await screen.findByText('one', { selector: 'mark' })
    const before = document.createRange()
    before.setStart(mark.parentElement!, 0)
    before.setEndBefore(mark)
    expect(before.toString().trimStart(), 'the second of two').toBe('One or two. Two or ')
    expect(await screen.findByText('Score 75 %')).toBeInTheDocument()
    await user.type(screen.getByLabelText('Question'), 'And last?{Enter}')
    await waitFor(() => expect(host.streams).toHaveLength(2))
    await told('', { start: 0, end: 0, score: 0.2, no_answer_score: 0.6 })
    expect(await screen.findByText('The text does not answer this question.')).toBeInTheDocument()
    expect(screen.getByText('Score 60 %')).toBeInTheDocument()
    expect(await violations()).toEqual([])
  })

  it('to summarize take lines, and are sent with Control and Enter', async () => {
    await open([model('model_1', { task: 'summarization' })])
    await user.type(screen.getByLabelText('Text to summarize'), 'One{Enter}two')
    expect(host.streams).toHaveLength(0)
    await user.keyboard('{Control>}{Enter}{/Control}')
    await waitFor(() => expect(host.streams[0]!.input.messages).toEqual([{ role: 'user', content: 'One\ntwo' }]))
    await answer('1, 2')
    expect(screen.queryByText('System prompt'), 'it was trained without one').toBeNull()
  })
})

describe('without any model', () => {
  it('says where one comes from', async () => {
    host = at.host = hostWith([])
    host.answers.finetune_catalogue = () => ({ possible: [] })
    render(Page, { params: [] })
    expect(await screen.findByText('No model to chat with yet')).toBeInTheDocument()
    expect(screen.getByRole('link', { name: 'Fine-tune a model' })).toHaveAttribute('href', '#/tune')
    expect(await violations()).toEqual([])
  })
})

describe('streaming', () => {
  it('costs less than 5 ms a token', () => {
    const tokens = 600
    const words = ['Some ', '**bold** ', 'text, ', '`code` ', 'a [link](https://example.org) ', 'and\n\n- more\n- of it\n\n']
    const { rerender, container } = render(Markdown, { text: '', writing: true })
    let text = ''
    // Time of this process alone: other programs may keep the machine busy.
    const began = process.cpuUsage()
    for (let n = 0; n < tokens; n++) {
      text += words[n % words.length]!
      void rerender({ text })
      flushSync()
    }
    const { user, system } = process.cpuUsage(began)
    const each = (user + system) / 1000 / tokens
    expect(container.querySelectorAll('li'), 'all of it is drawn').toHaveLength(200)
    expect(each, `drawn after every token, though the page draws once a frame: ${each.toFixed(2)} ms`).toBeLessThan(5)
  })
})
