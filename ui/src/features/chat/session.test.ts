import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { FakeHost } from '../../test/host'

const at = vi.hoisted(() => ({ host: null as FakeHost | null }))
vi.mock('../../platform', () => ({
  get platform() {
    return at.host
  },
}))

import { AppError } from '../../platform/error'
import { hostWith, settled } from '../../test/host'
import { Session } from './session.svelte'

const stats = (finish = 'eos') => ({ prompt_tokens: 9, tokens_generated: 3, prefill_ms: 10, generation_time_ms: 40, finish })
const tuned = { id: 'model_1', task: 'text-generation' as const, tuned: true }

let host: FakeHost
let frames: FrameRequestCallback[]

beforeEach(() => {
  host = at.host = hostWith([])
  frames = []
  vi.stubGlobal('requestAnimationFrame', (callback: FrameRequestCallback) => frames.push(callback))
  vi.stubGlobal('cancelAnimationFrame', () => (frames = []))
})

function frame(): void {
  const due = frames
  frames = []
  due.forEach((callback) => callback(0))
}

function open(partner: Parameters<Session['choose']>[0] = tuned): Session {
  const session = new Session()
  session.choose(partner)
  return session
}

const last = () => host.streams.at(-1)!
const answers = (session: Session) => session.turns.at(-1)!.answers

async function answer(text: string, finish = 'eos'): Promise<void> {
  last().feed({ type: 'done', text, stats: stats(finish) })
  await last().end()
}

describe('an answer', () => {
  it('grows once a frame, however many pieces come', async () => {
    const session = open()
    void session.ask('Hello?')
    await settled()
    for (const text of ['One', ' two', ' three']) last().feed({ type: 'text', text })
    expect(answers(session)[0]!.text, 'nothing is drawn between frames').toBe('')
    expect(frames, 'one frame for all pieces').toHaveLength(1)
    frame()
    expect(answers(session)[0]!.text).toBe('One two three')
    await answer('One two three.')
    expect(answers(session)[0]!.text, 'the end brings the whole text').toBe('One two three.')
    expect(session.busy).toBe(false)
  })

  it('is kept with its question, and the question before it', async () => {
    const session = open()
    void session.ask('Hello?')
    await settled()
    expect(host.of('conversations_put')[0], 'a reload while it answers finds the question').toMatchObject({
      id: null,
      model: 'model_1',
      messages: [{ role: 'user', content: 'Hello?' }],
    })
    await answer('Hi.')
    await settled()
    expect(session.id, 'it has an address from then on').toBe('chat_1')
    expect(host.of('conversations_put').at(-1)).toMatchObject({ id: 'chat_1', messages: [{ role: 'user' }, { role: 'assistant', content: 'Hi.' }] })
  })

  it('that fails says why, keeps what was written, and can be asked for again', async () => {
    const session = open()
    void session.ask('Hello?')
    await settled()
    last().feed({ type: 'text', text: 'Half' })
    await last().fail(new AppError(500, 'The engine ended.'))
    const [failed] = answers(session)
    expect([failed!.phase, failed!.text, failed!.error?.message]).toEqual(['failed', 'Half', 'The engine ended.'])
    void session.again(session.turns[0]!)
    await settled()
    expect(last().input.messages, 'the failed answer is not read').toEqual([{ role: 'user', content: 'Hello?' }])
    await answer('Hi.')
    expect(session.turns, 'in place of the failed one').toHaveLength(1)
  })
})

describe('stopping', () => {
  it('ends an answer that is written with its numbers', async () => {
    const session = open()
    void session.ask('Hello?')
    await settled()
    last().feed({ type: 'text', text: 'One' })
    await session.stop()
    expect(host.of('playground_cancel')).toHaveLength(1)
    expect(last().aborted, 'its numbers are still to come').toBe(false)
    await answer('One', 'cancelled')
    expect([answers(session)[0]!.phase, answers(session)[0]!.stats?.tokens_generated]).toEqual(['stopped', 3])
  })

  it('leaves one that has not begun', async () => {
    const session = open()
    void session.ask('Hello?')
    await settled()
    await session.stop()
    await settled()
    expect(last().aborted).toBe(true)
    expect([answers(session)[0]!.phase, session.busy], 'it can be asked for again').toEqual(['none', false])
  })

  it('does not begin the other side', async () => {
    const session = open()
    session.compare = true
    void session.ask('Hello?')
    await settled()
    last().feed({ type: 'text', text: 'One' })
    await session.stop()
    await answer('One', 'cancelled')
    expect(host.streams).toHaveLength(1)
  })
})

describe('side by side', () => {
  it('asks the base model, then the tuned one, with the same seed', async () => {
    const session = open()
    session.compare = true
    void session.ask('Hello?')
    await settled()
    expect(answers(session).map(({ phase }) => phase)).toEqual(['reading', 'queued'])
    await answer('base')
    await answer('tuned')
    const [base, chosen] = host.streams.map(({ input }) => input)
    expect([base!.without_adapter, chosen!.without_adapter]).toEqual([true, false])
    expect(base!.params, 'the difference is the training alone').toEqual(chosen!.params)
    expect((base!.params as { seed: number }).seed, '0 stands for another seed each time').toBeGreaterThan(0)
    expect(answers(session).map(({ text }) => text)).toEqual(['base', 'tuned'])
  })

  it('is not there for a base model', () => {
    const session = open()
    session.compare = true
    session.choose({ id: 'owner/base', task: null, tuned: false })
    expect(session.compare).toBe(false)
  })
})

describe('an earlier question', () => {
  it('asked in other words replaces what followed', async () => {
    const session = open()
    for (const text of ['One?', 'Two?', 'Three?']) {
      void session.ask(text)
      await settled()
      await answer(text)
    }
    void session.again(session.turns[1]!, 'Zwei?')
    await settled()
    expect(session.turns.map(({ question }) => question)).toEqual(['One?', 'Zwei?'])
    expect((last().input.messages as { content: string }[]).map(({ content }) => content)).toEqual(['One?', 'One?', 'Zwei?'])
  })
})

describe('a kept conversation', () => {
  it('is there again after a reload', async () => {
    host.answers.conversations_get = () => ({
      id: 'chat_9', title: 'About it', model: 'model_1', system_prompt: 'Be brief.', params: { temperature: 0.3, seed: 5 },
      messages: [
        { role: 'system', content: 'Nils ordered.' },
        { role: 'user', content: 'Who?' },
        { role: 'assistant', content: 'Leo', stats: null },
        { role: 'assistant', content: 'Nils', stats: stats() },
      ],
    })
    const session = new Session()
    await session.load('chat_9')
    session.choose(tuned)
    expect([session.title, session.system, session.params.temperature, session.compare]).toEqual(['About it', 'Be brief.', 0.3, true])
    expect(session.turns[0]).toMatchObject({ context: 'Nils ordered.', question: 'Who?' })
    expect(answers(session).map(({ side, text }) => `${side} ${text}`)).toEqual(['base Leo', 'chosen Nils'])
  })

  it('that was deleted elsewhere goes on as a new one', async () => {
    const put = host.answers.conversations_put!
    host.answers.conversations_put = (input: { id?: string }) => {
      if (input.id === 'chat_gone') throw new AppError(404, 'Not found')
      return put(input as never)
    }
    const session = open()
    session.id = 'chat_gone'
    void session.ask('Hello?')
    await settled()
    await answer('Hi.')
    await settled()
    expect([session.id, session.saveError]).toEqual(['chat_1', null])
  })

  it('that was deleted while it is answered does not come back', async () => {
    const session = open()
    void session.ask('Hello?')
    await settled()
    session.discard()
    await settled()
    expect([session.busy, host.of('conversations_put').length], 'only the question was kept, before').toEqual([false, 1])
  })

  it('that cannot be kept says so, and nothing is lost', async () => {
    host.answers.conversations_put = () => {
      throw new AppError(500, 'The disk is full.')
    }
    const session = open()
    void session.ask('Hello?')
    await settled()
    await answer('Hi.')
    await settled()
    expect(session.saveError?.message).toBe('The disk is full.')
    expect(answers(session)[0]!.text).toBe('Hi.')
  })
})

describe('documents', () => {
  it('are read one at a time, without a system prompt', async () => {
    const session = open({ id: 'model_1', task: 'extractive-question-answering', tuned: true })
    session.system = 'Be brief.'
    for (const question of ['Who?', 'What?']) {
      void session.ask(question, 'Nils ordered.')
      await settled()
      await answer('Nils')
    }
    expect(last().input).toMatchObject({ context: 'Nils ordered.', messages: [{ role: 'user', content: 'What?' }] })
    expect(session.params.temperature, 'the likeliest words').toBe(0)
  })
})
