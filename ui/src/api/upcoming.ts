// Operations that only newer backends have, as long as the generated table is without them.
import type * as generated from './generated'

export interface HardwareLoad {
  cpu_percent: number
  memory_used_bytes: number
  memory_total_bytes: number
  gpus: {
    name: string
    load_percent: number | null
    memory_used_bytes: number
    memory_total_bytes: number
    temperature_celsius: number | null
  }[]
}

export interface ModelManifest {
  model_id: string
  job_id: string | null
  base_model: string
  base_path: string | null
  base_here: boolean
  dataset: string
  dataset_path: string | null
  dataset_here: boolean
  seed: number
  steps: number
  tokens: number
  seconds: number
  train_rows: number
  eval_rows: number
  versions: Record<string, string>
  files: { path: string; bytes: number; sha256: string }[]
}

export interface ModelsExportInput {
  model_id: string
  format: 'safetensors' | 'gguf'
  dtype?: 'f16' | 'bf16' | 'f32' | 'q8_0'
  folder?: string | null
}

export type ExportItem =
  | { type: 'progress'; done: number; total: number }
  | { type: 'done'; path: string; bytes: number; checked: boolean }

export interface Change {
  topic: 'runs' | 'models' | 'datasets' | 'conversations' | 'settings' | 'hub' | 'playground'
  id: string | null
}

type Upcoming = {
  hardware_load: { input: Record<string, never>; output: HardwareLoad }
  models_manifest: { input: { model_id: string }; output: ModelManifest }
}

type UpcomingStreams = {
  models_export: { input: ModelsExportInput; item: ExportItem }
  app_changes: { input: Record<string, never>; item: Change }
}

export type Operations = generated.Operations & Omit<Upcoming, keyof generated.Operations>
export type Streams = generated.Streams & Omit<UpcomingStreams, keyof generated.Streams>
