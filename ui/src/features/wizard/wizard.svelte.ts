// The wizard: the draft, its five steps, and what each of them still lacks.

import { AppError, call } from '../../api/client'
import type { Strategy, Task } from '../../api/generated'
import type { FieldValue } from '../../components/schema'
import { t } from '../../i18n'
import { settings as app } from '../../state'
import { DataChoice } from './data.svelte'
import { STEPS, defaultName, emptyDraft, readDraft, takeHandedOver, writeDraft, type ChosenModel, type Draft, type Request, type Step, type Values } from './draft'
import { ModelChoice } from './model.svelte'
import { Plan, type Fix } from './plan.svelte'
import { SettingsForm } from './settings.svelte'
import { TestRun } from './test-run.svelte'

/** What a step lacks. `wait` passes by itself, `missing` is for the person to do. */
export type Lack = { kind: 'wait' | 'missing'; reason: Reason; n?: number }

export type Reason =
  | 'task'
  | 'model'
  | 'modelChecking'
  | 'modelRefused'
  | 'modelFailed'
  | 'data'
  | 'dataChecking'
  | 'dataBroken'
  | 'dataEmpty'
  | 'dataBadLines'
  | 'dataPreference'
  | 'settings'
  | 'settingsLoading'
  | 'planLoading'
  | 'planBroken'
  | 'planTooLarge'
  | 'earlier'

export class WizardController {
  draft = $state<Draft>(emptyDraft())
  readonly model: ModelChoice
  readonly data: DataChoice
  readonly settings: SettingsForm
  readonly plan = new Plan()
  readonly test = new TestRun()
  starting = $state(false)
  startError = $state.raw<AppError | null>(null)
  /** Where runs were computed when it was asked last what they take: this card, that one, the processor. */
  #place: string | undefined
  readonly #storage: Storage
  readonly #handed: Storage

  constructor(storage: Storage = localStorage, handed: Storage = sessionStorage) {
    this.#storage = storage
    this.#handed = handed
    this.draft = readDraft(storage)
    const draft = () => this.draft
    const change = (patch: Partial<Draft>) => this.#change(patch)
    this.model = new ModelChoice(draft, change)
    this.data = new DataChoice(draft, change)
    this.settings = new SettingsForm(draft)
  }

  /** Asks for what the steps show. Called whenever the wizard is opened: what is known already stays while it is asked. */
  async open(): Promise<void> {
    const handed = takeHandedOver(this.#handed)
    const whole = handed !== null && (handed.task !== null || handed.model !== null)
    if (whole) {
      this.startOver()
      this.#change(handed)
    } else if (handed) {
      // A file was opened: what has been chosen beside it stays.
      this.data.clear()
      this.#change({ dataset: handed.dataset, step: 'data' })
    }
    this.#lookWhere()
    const { task, dataset } = this.draft
    const settings = this.settings.load()
    void this.data.load()
    if (task) void this.model.load(task)
    const checked = dataset && !this.data.report && !this.data.checking ? this.data.check() : undefined
    await Promise.all([settings, checked])
    if (whole && this.settings.ready) this.#change({ values: this.settings.differing() })
    this.#fitStrategy()
    this.#rowsChanged()
    this.#planChanged()
  }

  /** Another place has other memory and carries out other settings: what was asked before is asked again. */
  #lookWhere(): void {
    const place = app.value?.compute_on
    if (place === this.#place) return
    if (this.#place !== undefined) for (const part of [this.settings, this.plan, this.test]) part.forget()
    this.#place = place
  }

  get request(): Request | null {
    return this.settings.request()
  }

  /** The name that the model will get. */
  get name(): string | null {
    return this.draft.values.name || defaultName(this.draft)
  }

  /** Why a strategy does not go with the rows. */
  unfit(strategy: Strategy): string | undefined {
    const form = this.data.report?.form
    if (!form) return undefined
    const pairs = form === 'preference'
    if (pairs && (strategy === 'sft' || strategy === 'qlora')) return t('wizard.settings.learnsAnswers')
    return !pairs && strategy === 'dpo' ? t('wizard.settings.learnsPairs') : undefined
  }

  /** The length that rows are cut to. */
  get lengthLimit(): number {
    const set = this.draft.values.max_seq_length
    if (typeof set === 'number') return set
    const context = this.model.known(this.draft.model?.name ?? '')?.context_length ?? Infinity
    const limit = Math.min(context, this.settings.lengthCap ?? Infinity)
    return Number.isFinite(limit) ? limit : 2048
  }

  // Steps

  lack(step: Step): Lack | null {
    const { draft, model, data, settings, plan } = this
    const missing = (reason: Reason, n?: number): Lack => ({ kind: 'missing', reason, n })
    const wait = (reason: Reason): Lack => ({ kind: 'wait', reason })
    switch (step) {
      case 'task':
        return draft.task ? null : missing('task')
      case 'model':
        if (!draft.model) return model.loading ? wait('modelChecking') : missing('model')
        if (model.reach.state === 'checking' || model.reach.state === 'idle') return wait('modelChecking')
        if (model.reach.state === 'refused') return missing('modelRefused')
        return model.reach.state === 'failed' ? missing('modelFailed') : null
      case 'data': {
        if (!draft.dataset) return missing('data')
        if (data.checking) return wait('dataChecking')
        const { report } = data
        if (!report) return data.error ? missing('dataBroken') : wait('dataChecking')
        if (report.usable_rows === 0) return missing('dataEmpty')
        if (report.form === 'preference' && settings.refusal('strategy', 'dpo')) return missing('dataPreference')
        return report.error_count > 0 && !data.skips ? missing('dataBadLines', report.error_count) : null
      }
      case 'settings':
        if (!settings.ready) return settings.error ? missing('settings') : wait('settingsLoading')
        if (settings.problems.length > 0 || this.fieldErrors.length > 0) return missing('settings')
        return null
      case 'review':
        if (this.blocker('review')) return missing('earlier')
        if (plan.error) return missing('planBroken')
        if (!plan.estimate) return wait('planLoading')
        return this.tooLarge ? missing('planTooLarge') : null
    }
  }

  /** The first step before this one that lacks something. */
  blocker(step: Step): Step | null {
    return STEPS.slice(0, STEPS.indexOf(step)).find((one) => this.lack(one)?.kind === 'missing') ?? null
  }

  /** Settings that the backend refused, by name. */
  get fieldErrors(): string[] {
    const detail = this.plan.error?.detail
    if (detail === undefined || typeof detail === 'string') return []
    return detail.map((entry) => entry.loc.at(-1) ?? '').filter((name) => this.settings.field(name) !== undefined)
  }

  fieldError(name: string): string | undefined {
    return this.plan.error?.field(name) ?? this.startError?.field(name)
  }

  /** What was measured counts more than what was estimated. */
  get tooLarge(): boolean {
    const { estimate } = this.plan
    if (!estimate) return false
    const measured = this.test.report(this.request)?.peak_memory_bytes
    return measured ? measured > estimate.free_memory_bytes : estimate.fit === 'too_large'
  }

  enter(step: Step): void {
    this.#change({ step })
    if (step === 'data') this.#rowsChanged()
    if (step === 'settings' || step === 'review') this.#planChanged()
  }

  // Choices

  chooseTask(task: Task): void {
    if (task === this.draft.task) return
    this.#change({ task })
    void this.model.load(task)
    void this.data.load()
    if (this.draft.dataset) void this.#recheck()
  }

  chooseModel(model: ChosenModel): void {
    this.model.choose(model)
    this.#dataChanged()
  }

  async chooseDataset(dataset: string): Promise<void> {
    await this.data.choose(dataset)
    this.#dataChanged()
  }

  async takeFile(...file: Parameters<DataChoice['take']>): Promise<void> {
    await this.data.take(...file)
    this.#dataChanged()
  }

  /** Sets a setting, or gives it back to its default. */
  set(name: string, value: FieldValue): void {
    const values = { ...this.draft.values } as Record<string, FieldValue>
    if (value === undefined) delete values[name]
    else values[name] = value
    this.#change({ values: values as Values })
    if (name === 'max_seq_length') this.#rowsChanged()
    this.#planChanged()
  }

  setAdvanced(advanced: boolean): void {
    this.#change({ advanced })
  }

  /** Gives all settings back to their defaults, those of the data step aside. */
  resetSettings(): void {
    const { skip_bad_rows, eval_dataset, eval_split, name } = this.draft.values
    const kept = { skip_bad_rows, eval_dataset, eval_split, name }
    this.#change({ values: Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)) })
    this.#rowsChanged()
    this.#planChanged()
  }

  apply(fix: Fix): void {
    this.#change({ values: { ...this.draft.values, ...fix.patch } })
    this.#rowsChanged()
    this.#planChanged()
  }

  startOver(): void {
    this.test.cancel()
    this.plan.forget()
    this.draft = emptyDraft()
    writeDraft(this.#storage, this.draft)
    this.startError = null
    this.model.reach = { state: 'idle' }
    this.model.other = { state: 'idle' }
    this.data.clear()
  }

  /** Starts the run, or has it wait for those before it, and gives its id; null where it was refused. */
  async start(waits = false): Promise<string | null> {
    const { request } = this
    if (!request || this.starting) return null
    this.starting = true
    this.startError = null
    try {
      const { job_id } = await call(waits ? 'queue_add' : 'finetune_start_training', request)
      // The next run from this draft gets a name of its own.
      const { name: _, ...values } = this.draft.values
      this.#change({ started: job_id, values })
      return job_id
    } catch (error) {
      this.startError = AppError.from(error)
      return null
    } finally {
      this.starting = false
    }
  }

  #change(patch: Partial<Draft>): void {
    Object.assign(this.draft, patch)
    writeDraft(this.#storage, $state.snapshot(this.draft) as Draft)
  }

  async #recheck(): Promise<void> {
    await this.data.check()
    this.#dataChanged()
  }

  #dataChanged(): void {
    this.#fitStrategy()
    this.#rowsChanged()
    this.#planChanged()
  }

  /** Pairs of answers are learned by comparing them, single answers are not: what cannot be meant is changed. */
  #fitStrategy(): void {
    if (!this.settings.ready || this.unfit(this.settings.value('strategy') as Strategy) === undefined) return
    const { strategy: _, ...values } = this.draft.values
    const pairs = this.data.report?.form === 'preference'
    this.#change({ values: pairs && !this.settings.refusal('strategy', 'dpo') ? { ...values, strategy: 'dpo' } : values })
  }

  #rowsChanged(): void {
    const { request } = this
    if (request && this.data.report && this.data.report.usable_rows > 0) void this.data.preview(request, this.lengthLimit)
  }

  /** Asks only for what can be answered: every earlier step is complete. */
  #planChanged(): void {
    this.startError = null
    const complete = this.settings.ready && this.blocker('settings') === null && this.settings.problems.length === 0
    this.plan.soon(complete ? this.request : null)
  }
}
