// A backend for tests: answers by operation, and what it was asked.

import { AppError } from '../../platform/error'

export type Answer = (input: Record<string, unknown>) => unknown

interface Asked {
  op: string
  input: Record<string, unknown>
  signal?: AbortSignal
}

export const backend = { answers: {} as Record<string, Answer>, calls: [] as Asked[] }

export const platform = {
  kind: 'http',
  canOpenFolder: false,
  onFileDrop: () => () => {},
  async call(op: string, input: Record<string, unknown>, options?: { signal?: AbortSignal }) {
    backend.calls.push({ op, input, signal: options?.signal })
    const answer = backend.answers[op]
    if (!answer) throw new AppError(404, `no answer for ${op}`)
    return answer(input)
  },
}

export const memory = (total: number) => ({
  weights: total, adapter: 0, gradients: 0, optimizer: 0, activations: 0, logits: 0, kv_cache: 0, saving: 0, runtime: 0, total,
})
export const possible = (name: string, total: number, more = {}) => ({
  name, title: name, cached: true, gated: false, strategy: 'sft', bf16: false, batch_size: 1, fit: 'fits', memory: memory(total),
  parameters: 1e6, license: 'mit', context_length: 512, ...more,
})
export const field = (name: string, msg: string) => new AppError(400, [{ loc: ['body', name], msg, type: 'value_error' }])

export const normal: Record<string, Answer> = {
  finetune_config_schema: () => [
    { name: 'strategy', type: 'choice', values: ['sft', 'qlora'], default: { is: 'text', value: 'sft' }, help: '' },
    { name: 'num_train_epochs', type: 'int', min: 1, max: 2147483647, default: { is: 'int', value: 1 }, help: '' },
    { name: 'learning_rate', type: 'float', min: 0, max: 1, ends: 'upper', default: { is: 'by_strategy', value: '2e-4' }, help: '' },
    { name: 'use_4bit', type: 'bool', default: { is: 'by_strategy', value: '' }, help: '' },
    { name: 'max_seq_length', type: 'int', min: 8, max: 2147483647, default: { is: 'found', value: '' }, help: '' },
  ],
  finetune_load_settings: () => ({ num_train_epochs: 3, max_seq_length: 256, use_4bit: true, learning_rate: 2e-4 }),
  finetune_catalogue: ({ task }) => ({
    task, profile: 'low_end', recommended: 'big', possible: [possible('big', 900), possible('small', 100)],
  }),
  finetune_hardware_specs: () => ({ gpu_name: 'No GPU detected', gpu_memory_gb: 0, ram_gb: 8, disk_space_gb: 64, cpu_cores: 4 }),
  runs_list: () => [],
  storage_usage: () => ({ cached: [] }),
  datasets_samples: () => [{ dataset: 'sample:slips', title: 'Slips', task: 'text-generation', strategy: 'sft' }],
  datasets_list: () => [],
  datasets_check: ({ dataset, task }) => ({
    task: task ?? 'text-generation', path: dataset, format: 'jsonl', form: 'input_output', bytes: 10, rows: 11,
    usable_rows: 11, columns: [], errors: [], error_count: 0,
  }),
  datasets_preview: () => ({ task: 'text-generation', rows: [] }),
  finetune_validate_model: ({ selected_model }) => ({ valid: true, model: selected_model }),
  finetune_estimate: (input) => {
    if (input.use_4bit || input.strategy === 'qlora') throw field(input.strategy ? 'strategy' : 'use_4bit', 'not yet')
    return {
      memory: memory(500), free_memory_bytes: 1000, card: null, fit: 'fits', nearest: null, on_processor: null, disk: { checkpoints: 1, working: 1, model: 1, total: 3 },
      free_disk_bytes: 1000, longest_row: 60, time: null,
      workload: { tokens: 100, trained_tokens: 50, eval_tokens: 0, eval_trained_tokens: 0, steps: 10 },
    }
  },
  finetune_start_training: () => ({ success: true, message: '', job_id: 'train_1' }),
}

export const inputs = (op: string) => backend.calls.filter((call) => call.op === op).map((call) => call.input)

/** Forgets what was asked and answers as usual again. */
export function reset(): void {
  backend.calls = []
  backend.answers = { ...normal }
}
