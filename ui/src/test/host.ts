// A host for tests: operations answer from a table, streams are fed by hand.
import type { ModelRow, PlaygroundStatus } from '../api/generated'
import { AppError } from '../platform/error'

type Answer = (input: never) => unknown

export interface FakeStream {
  op: string
  input: Record<string, unknown>
  feed: (item: unknown) => void
  end: () => Promise<void>
  fail: (error: AppError) => Promise<void>
  aborted: boolean
}

export class FakeHost {
  readonly kind = 'http'
  canOpenFolder = false
  answers: Record<string, Answer> = {}
  /** What was asked, in order. */
  asked: { op: string; input: Record<string, unknown> }[] = []
  streams: FakeStream[] = []
  opened: string[] = []

  async call(op: string, input: Record<string, unknown>): Promise<unknown> {
    this.asked.push({ op, input: structuredClone(input) })
    const answer = this.answers[op]
    if (!answer) throw new AppError(404, `There is no ${op}.`)
    return answer(input as never)
  }

  stream(op: string, input: Record<string, unknown>, onItem: (item: unknown) => void, options: { signal?: AbortSignal } = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      const one: FakeStream = {
        op,
        input: structuredClone(input),
        aborted: false,
        feed: onItem,
        end: () => (resolve(), settled()),
        fail: (error) => (reject(error), settled()),
      }
      options.signal?.addEventListener('abort', () => {
        one.aborted = true
        resolve()
      })
      this.streams.push(one)
    })
  }

  of(op: string): Record<string, unknown>[] {
    return this.asked.filter((asked) => asked.op === op).map(({ input }) => input)
  }

  onFileDrop(): () => void {
    return () => {}
  }
  async openUrl(url: string): Promise<void> {
    this.opened.push(url)
  }
  async notify(): Promise<void> {}
}

/** Waits until all that was answered has been taken in. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
}

export function model(id: string, more: Partial<ModelRow> = {}): ModelRow {
  return {
    model_id: id,
    name: `Name of ${id}`,
    base_model: 'modelforge/starter',
    task: 'text-generation',
    strategy: 'sft',
    created_at: '2026-01-01T00:00:00Z',
    size_mb: 2.4,
    path: `/models/${id}`,
    ...more,
  }
}

export const starter = {
  name: 'modelforge/starter',
  title: 'ModelForge Starter',
  parameters: 5_771_520,
  license: 'cc0-1.0',
  context_length: 512,
  tasks: ['text-generation', 'summarization', 'extractive-question-answering'],
}

export const idle: PlaygroundStatus = { model_id: null, model: null, answering: false }

/** A host with these models and the one that ships with the app. */
export function hostWith(models: ModelRow[]): FakeHost {
  const host = new FakeHost()
  let kept = 0
  Object.assign(host.answers, {
    models_list: () => models,
    storage_usage: () => ({ cached: [] }),
    finetune_catalogue: () => ({ possible: [starter] }),
    runs_list: () => [],
    conversations_list: () => [],
    playground_status: () => idle,
    playground_cancel: () => ({ success: true, message: '' }),
    conversations_put: (input: { id?: string | null; title?: string | null; messages: { role: string; content: string }[] }) => ({
      ...input,
      id: input.id ?? `chat_${++kept}`,
      title: input.title ?? input.messages.find(({ role }) => role === 'user')?.content ?? '',
    }),
  } satisfies Record<string, Answer>)
  return host
}
