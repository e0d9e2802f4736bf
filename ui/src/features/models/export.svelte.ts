// Writing a model into one file or folder that other programs read: under way, done or failed. It goes on while its dialog is
// closed and other screens are looked at.
import { AppError, isAbort, stream } from '../../api/client'
import { ROUTES } from '../../api/generated'

export type Format = 'safetensors' | 'gguf'
export type Dtype = 'f16' | 'bf16' | 'f32' | 'q8_0'

/** The dtypes each format is written in, the usual one first. */
export const DTYPES: Readonly<Record<Format, readonly Dtype[]>> = {
  gguf: ['q8_0', 'f16', 'f32'],
  safetensors: ['bf16', 'f16', 'f32'],
}

/** Whether this version of the backend can export. */
export const canExport = 'models_export' in ROUTES

export interface Exported {
  readonly path: string
  readonly bytes: number
  /** Whether it was read back and gave the same answers. */
  readonly checked: boolean
}

export class Export {
  readonly model: string
  readonly format: Format
  readonly dtype: Dtype
  /** Null for the app's own folder of exports. */
  readonly folder: string | null
  progress = $state.raw<{ done: number; total: number } | null>(null)
  done = $state.raw<Exported | null>(null)
  error = $state.raw<AppError | null>(null)
  running = $state(true)
  readonly #stop = new AbortController()

  constructor(model: string, format: Format, dtype: Dtype, folder: string | null) {
    this.model = model
    this.format = format
    this.dtype = dtype
    this.folder = folder
    void this.#run()
  }

  cancel(): void {
    this.#stop.abort()
  }

  async #run(): Promise<void> {
    const input = { model_id: this.model, format: this.format, dtype: this.dtype, folder: this.folder }
    try {
      await stream(
        'models_export',
        input,
        (item) => {
          if (item.type === 'progress') this.progress = item
          else this.done = item
        },
        { signal: this.#stop.signal },
      )
    } catch (thrown) {
      if (!isAbort(thrown)) this.error = AppError.from(thrown)
    }
    this.running = false
  }
}

class Exports {
  list = $state.raw<readonly Export[]>([])

  of(model: string): Export[] {
    return this.list.filter((one) => one.model === model)
  }

  /** Starts one in place of an earlier one of the same kind. */
  start(model: string, format: Format, dtype: Dtype, folder: string | null): Export {
    const started = new Export(model, format, dtype, folder)
    const others = this.list.filter((one) => one.running || one.model !== model || one.format !== format)
    this.list = [...others, started]
    return started
  }

  /** Tries once more what failed. */
  again(one: Export): Export {
    this.forget(one)
    return this.start(one.model, one.format, one.dtype, one.folder)
  }

  forget(one: Export): void {
    one.cancel()
    this.list = this.list.filter((other) => other !== one)
  }
}

export const exports = new Exports()
