// A host for tests: operations answer from a table, streams are fed by hand.
import type { EventLine, Run, RunSpec } from '../../../api/generated'
import { AppError } from '../../../platform/error'

type Answer = (input: never) => unknown

export class FakePlatform {
  readonly kind = 'http'
  readonly canOpenFolder = false
  readonly answers: Record<string, Answer> = {}
  /** What was asked, in order. */
  readonly asked: { op: string; input: unknown }[] = []
  readonly streams: { op: string; input: unknown; after: number | undefined; feed: (item: unknown, id?: number) => void; end: () => void; ended: boolean }[] = []

  async call(op: string, input: unknown): Promise<unknown> {
    this.asked.push({ op, input })
    const answer = this.answers[op] ?? (op === 'runs_curve' ? noCurve : undefined)
    if (!answer) throw new AppError(404, `There is no ${op}.`)
    return answer(input as never)
  }

  stream(op: string, input: unknown, onItem: (item: unknown, id: number | null) => void, options: { signal?: AbortSignal; after?: number } = {}): Promise<void> {
    return new Promise((resolve) => {
      const one = {
        op,
        input,
        after: options.after,
        ended: false,
        feed: (item: unknown, id?: number) => onItem(item, id ?? (item as { seq?: number }).seq ?? null),
        end: () => ((one.ended = true), resolve()),
      }
      options.signal?.addEventListener('abort', one.end)
      this.streams.push(one)
    })
  }

  /** The newest stream of a run's events. */
  get events() {
    return this.streams.filter((stream) => stream.op === 'runs_events').at(-1)
  }

  onFileDrop(): () => void {
    return () => {}
  }
  async openUrl(): Promise<void> {}
  async notify(): Promise<void> {}
}

/** What a run has told that has not begun. */
const noCurve: Answer = () => ({ after: null, steps: { stride: 1, step: [], epoch: [], elapsed_ms: [], held: [], columns: {} }, last: null, events: [] })

let seq = 0
/** The next line of an event log. */
export function line(event: Record<string, unknown>, time = '2026-01-01T00:00:00Z'): EventLine {
  return { ...event, seq: seq++, time } as unknown as EventLine
}

export function step(n: number, total = 100, fields: Record<string, unknown> = {}): EventLine {
  return line({
    event: 'step',
    step: n,
    total_steps: total,
    epoch: (n / total) * 2,
    loss: 2 / n,
    learning_rate: 1e-4,
    grad_norm: 0.2,
    tokens: 500,
    trained_tokens: 100,
    step_ms: 500,
    elapsed_ms: n * 500,
    ...fields,
  })
}

export const CONFIG = {
  task: 'text-generation',
  model_name: 'modelforge/starter',
  dataset: 'sample:order-slips',
  strategy: 'sft',
  name: 'Order slips',
  num_train_epochs: 2,
  learning_rate: 2e-4,
  lr_scheduler_type: 'cosine',
  warmup_ratio: 0.03,
  max_grad_norm: 0.3,
  lora_r: 16,
  seed: 42,
} as RunSpec['config']

export function run(fields: Record<string, unknown> = {}): Run {
  return {
    job_id: 'train_1',
    model_id: 'model_1',
    name: 'Order slips',
    base_model: 'modelforge/starter',
    dataset: 'sample:order-slips',
    task: 'text-generation',
    strategy: 'sft',
    created_at: '2026-01-01T00:00:00Z',
    status: 'running',
    phase: null,
    step: 0,
    total_steps: null,
    epoch: null,
    num_train_epochs: 2,
    loss: null,
    peak_memory_bytes: null,
    metrics: {},
    started_at: null,
    updated_at: null,
    ...fields,
  } as unknown as Run
}

export function spec(): RunSpec {
  return {
    version: 1,
    job_id: 'train_1',
    model_id: 'model_1',
    config: CONFIG,
    base_dir: '/m',
    dataset_path: '/d/train.jsonl',
    eval_dataset_path: null,
    model_dir: '/o',
    created_at: '2026-01-01T00:00:00Z',
  }
}

/** A host that keeps one run and obeys the orders given to it. */
export function hostOf(first: Run): { platform: FakePlatform; set: (fields: Record<string, unknown>) => void } {
  const platform = new FakePlatform()
  let now: Run | null = first
  const set = (fields: Record<string, unknown>): void => {
    if (now) now = { ...now, ...fields } as Run
  }
  Object.assign(platform.answers, {
    runs_list: () => (now ? [now] : []),
    runs_get: () => {
      if (!now) throw new AppError(404, 'There is no such run.')
      return { ...now, spec: spec() }
    },
    runs_pause: () => ({ success: true, message: '' }),
    runs_stop: () => ({ success: true, message: '' }),
    runs_resume: () => (set({ status: 'running' }), { success: true, message: '', job_id: 'train_1' }),
    runs_delete: () => ((now = null), { success: true, message: '' }),
    models_list: () => [],
    finetune_config_schema: () => [],
  })
  return { platform, set }
}
