// Operations that newer backends have.
import type {} from './generated'

declare module './generated' {
  interface Operations {
    hardware_load: { input: Record<string, never>; output: HardwareLoad }
    models_manifest: { input: { model_id: string }; output: ModelManifest }
  }
  interface Streams {
    models_export: { input: ModelsExportInput; item: ExportItem }
    app_changes: { input: Record<string, never>; item: Change }
  }
  interface HardwareLoad {
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
  interface ModelManifest {
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
  interface ModelsExportInput {
    model_id: string
    format: 'safetensors' | 'gguf'
    dtype?: 'f16' | 'bf16' | 'f32' | 'q8_0'
    folder?: string | null
  }
  type ExportItem =
    | { type: 'progress'; done: number; total: number }
    | { type: 'done'; path: string; bytes: number; checked: boolean }
  interface Change {
    topic: 'runs' | 'models' | 'datasets' | 'conversations' | 'settings' | 'hub' | 'playground'
    id: string | null
  }
}
