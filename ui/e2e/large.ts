// A data folder of somebody who has used the app for years: the files that engines leave, written as they write them.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const STARTER = 'modelforge/starter'

const CONFIG = {
  task: 'text-generation',
  model_name: STARTER,
  dataset: '/rows.jsonl',
  strategy: 'sft',
}

/** `kind_YYYYMMDD_HHMMSS`, a minute apart each. */
function id(kind: 'train' | 'model', index: number): string {
  const digits = new Date(Date.UTC(2025, 0, 1) + index * 60_000).toISOString().replace(/\D/g, '')
  return `${kind}_${digits.slice(0, 8)}_${digits.slice(8, 14)}`
}

/** Finished models. */
export function writeModels(home: string, count: number): void {
  for (let index = 0; index < count; index++) {
    const model = id('model', index)
    const folder = join(home, 'models', model)
    mkdirSync(folder, { recursive: true })
    const manifest = {
      version: 1,
      model_id: model,
      name: `Model ${index}`,
      job_id: id('train', index),
      created_at: time(index),
      base_model: { name: STARTER, path: '/starter', files: [] },
      dataset: { name: '/rows.jsonl', path: '/rows.jsonl', sha256: '', train_rows: 1, eval_rows: 0 },
      config: CONFIG,
      seed: 42,
      versions: {},
      metrics: { final_loss: 0.5 },
      steps: 1,
      tokens: 1,
      seconds: 1,
      files: [],
    }
    writeFileSync(join(folder, 'modelforge.json'), JSON.stringify(manifest))
  }
}

/** Finished runs of a few steps. */
export function writeRuns(home: string, count: number): void {
  for (let index = 0; index < count; index++) writeRun(home, index, 10)
}

/** One finished run of so many steps; its id. */
export function writeRun(home: string, index: number, steps: number): string {
  const job = id('train', index)
  const folder = join(home, 'runs', job)
  mkdirSync(folder, { recursive: true })
  const spec = {
    version: 1,
    job_id: job,
    model_id: id('model', index),
    config: { ...CONFIG, name: `Run ${index}` },
    base_dir: '/starter',
    dataset_path: '/rows.jsonl',
    model_dir: '/model',
    created_at: time(index),
  }
  writeFileSync(join(folder, 'run.json'), JSON.stringify(spec))
  let seq = 0
  const lines: string[] = []
  const tell = (event: object): void => {
    lines.push(JSON.stringify({ seq, time: time(index, seq++), ...event }))
  }
  tell({ event: 'started', job_id: job, pid: 1, version: '0.1.0', resumed_from: null })
  tell({ event: 'phase', phase: 'training' })
  for (let step = 1; step <= steps; step++) {
    tell({
      event: 'step',
      step,
      total_steps: steps,
      epoch: step / steps,
      loss: 2 * Math.exp((-3 * step) / steps) + 0.1 * Math.abs(Math.sin(step)),
      learning_rate: 2e-4 * (1 - step / (steps + 1)),
      grad_norm: 0.2 + 0.1 * Math.abs(Math.cos(step)),
      tokens: 512,
      trained_tokens: 128,
      step_ms: 5,
      elapsed_ms: step * 5,
    })
  }
  tell({
    event: 'finished',
    metrics: { final_loss: 0.2 },
    result: { success: true, model_id: id('model', index), message: 'Trained.' },
  })
  writeFileSync(join(folder, 'events.jsonl'), lines.join('\n') + '\n')
  return job
}

function time(index: number, seq = 0): string {
  return new Date(Date.UTC(2025, 0, 1) + index * 60_000 + seq * 5).toISOString().replace(/\.\d+Z$/, 'Z')
}
