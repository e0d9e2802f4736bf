// The settings that a run starts from, fitted to what this version carries out, and what the person changes of them.

import { AppError, call } from '../../api/client'
import type { Strategy } from '../../api/generated'
import { goesWith, literalDefault, problemOf, sameValue, type FieldProblem, type FieldValue, type SchemaField } from '../../components/schema'
import { requestOf, suggestedFor, type Draft, type Request, type Values } from './draft'

export const STRATEGIES: readonly Strategy[] = ['sft', 'qlora', 'dpo', 'rlhf']

/** Fields that are entered in other steps. */
export const ELSEWHERE: ReadonlySet<string> = new Set([
  'task', 'model_name', 'dataset', 'skip_bad_rows', 'eval_dataset', 'eval_split', 'strategy', 'name',
])

/** Fields that mean something only together with another. */
const NEEDS: Readonly<Record<string, string>> = {
  bnb_4bit_compute_dtype: 'use_4bit',
  bnb_4bit_quant_type: 'use_4bit',
  use_nested_quant: 'use_4bit',
}

/** Choices that a version may not carry out yet, each asked for together with what it needs. */
const DOUBTFUL: readonly { field: string; value: FieldValue; ask: Values }[] = [
  ...STRATEGIES.filter((strategy) => strategy !== 'sft').map((strategy) => ({
    field: 'strategy', value: strategy, ask: { strategy },
  })),
  { field: 'use_4bit', value: true, ask: { use_4bit: true } },
  { field: 'use_8bit', value: true, ask: { use_8bit: true } },
  { field: 'fp16', value: true, ask: { fp16: true } },
  { field: 'provider', value: 'unsloth', ask: { provider: 'unsloth', max_seq_length: 64 } },
]

export class SettingsForm {
  schema = $state.raw<SchemaField[]>([])
  suggested = $state.raw<Values>({})
  /** The longest row that the machine's class allows, where the person sets no length. */
  lengthCap = $state<number | null>(null)
  /** Why a choice cannot be made in this version, by `field=value`. */
  refused = $state.raw<Readonly<Record<string, string>>>({})
  freeMemory = $state<number | null>(null)
  loading = $state(false)
  error = $state.raw<AppError | null>(null)
  readonly #draft: () => Draft

  constructor(draft: () => Draft) {
    this.#draft = draft
  }

  get ready(): boolean {
    return this.schema.length > 0 && !this.loading
  }

  /** Has the next `load` ask again. */
  forget(): void {
    this.schema = []
  }

  async load(): Promise<void> {
    if (this.loading || this.schema.length > 0) return
    this.loading = true
    this.error = null
    try {
      const [schema, settings, samples] = await Promise.all([
        call('finetune_config_schema', {}),
        call('finetune_load_settings', {}),
        call('datasets_samples', {}),
      ])
      // The length is left to be found: the longest row, which is what a person would look up.
      const { max_seq_length, ...suggested } = settings
      this.lengthCap = max_seq_length
      const sample = samples.find((one) => one.task === 'text-generation' && (one.strategy ?? 'sft') === 'sft')
      if (sample) await this.#fit({ task: sample.task, model_name: 'modelforge/starter', dataset: sample.dataset }, suggested)
      else this.suggested = suggested
      this.schema = schema as unknown as SchemaField[]
    } catch (error) {
      this.error = AppError.from(error)
    } finally {
      this.loading = false
    }
  }

  /** Asks what a run on the bundled model would be refused for: no list here has to follow what versions can do. */
  async #fit(base: Request, suggested: Values): Promise<void> {
    const asked = DOUBTFUL.map(async ({ field, value, ask }) => {
      const reason = await call('finetune_estimate', { ...base, ...ask }).then(
        () => undefined,
        (error: unknown) => (error instanceof AppError ? error.field(field) : undefined),
      )
      return { choice: `${field}=${String(value)}`, reason }
    })
    const refused: Record<string, string> = {}
    for (const { choice, reason } of await Promise.all(asked)) if (reason !== undefined) refused[choice] = reason
    this.refused = refused
    this.suggested = Object.fromEntries(
      Object.entries(suggested).filter(([field, value]) => !(`${field}=${String(value)}` in this.refused)),
    )
    const estimate = await call('finetune_estimate', { ...base, ...this.suggested })
    this.freeMemory = estimate.free_memory_bytes
  }

  field(name: string): SchemaField | undefined {
    return this.schema.find((field) => field.name === name)
  }

  /** What holds where the person changes nothing; undefined where the backend finds it. */
  default(name: string): FieldValue {
    const draft = this.#draft()
    const suggested = suggestedFor(draft, this.suggested) as Record<string, FieldValue>
    if (name in suggested) return suggested[name]
    if (name === 'use_4bit') return this.value('strategy') === 'qlora' && draft.values.use_8bit !== true
    const field = this.field(name)
    return field && literalDefault(field)
  }

  value(name: string): FieldValue {
    const values = this.#draft().values as Record<string, FieldValue>
    return name in values ? values[name] : this.default(name)
  }

  changed(name: string): boolean {
    return !sameValue(this.value(name), this.default(name))
  }

  /** How many settings of this step differ from their default. */
  get changes(): string[] {
    const shown = this.schema.filter((field) => !ELSEWHERE.has(field.name) && this.#counts(field))
    return shown.filter((field) => this.changed(field.name)).map((field) => field.name)
  }

  /** The draft's settings without those that hold anyway. */
  differing(): Values {
    return Object.fromEntries(Object.entries(this.#draft().values).filter(([name]) => this.changed(name)))
  }

  problem(name: string): FieldProblem | null {
    const field = this.field(name)
    return field ? problemOf(field, this.value(name)) : null
  }

  get problems(): string[] {
    return this.schema.filter((field) => this.#counts(field) && this.problem(field.name) !== null).map((field) => field.name)
  }

  #counts(field: SchemaField): boolean {
    return goesWith(field, this.value('strategy') as Strategy)
  }

  refusal(name: string, value: FieldValue): string | undefined {
    return this.refused[`${name}=${String(value)}`]
  }

  /** The field that has to be on before this one means something, while it is off. */
  needs(name: string): string | undefined {
    const other = NEEDS[name]
    return other && this.value(other) !== true ? other : undefined
  }

  /** Without the settings of other strategies, which are kept for when the person comes back to them. */
  request(): Request | null {
    const request = requestOf(this.#draft(), this.suggested)
    const foreign = new Set(this.schema.filter((field) => !this.#counts(field)).map((field) => field.name))
    return request && (Object.fromEntries(Object.entries(request).filter(([name]) => !foreign.has(name))) as Request)
  }
}
