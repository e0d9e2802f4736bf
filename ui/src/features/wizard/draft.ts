// What the person has entered so far, kept in the browser's storage so that leaving or reloading loses nothing.

import type { FinetuneStartTrainingInput, Task } from '../../api/generated'

export const STEPS = ['task', 'model', 'data', 'settings', 'review'] as const
export type Step = (typeof STEPS)[number]
export type Request = FinetuneStartTrainingInput
/** Settings of the run by field name; those that are absent keep their default. */
export type Values = Partial<Omit<Request, 'task' | 'model_name' | 'dataset'>>

export interface ChosenModel {
  /** As runs take it: a Hub repository, a folder, or the starter's name. */
  name: string
  title: string
  /** Settings that the catalogue's numbers for it assume. */
  fitted: Values
}

export interface Draft {
  step: Step
  task: Task | null
  model: ChosenModel | null
  /** What is typed under "Any other model". */
  otherModel: string
  /** As runs take it: a path or `sample:<name>`. */
  dataset: string | null
  /** Only what differs from the suggested settings. */
  values: Values
  advanced: boolean
  /** The run that was started from this draft. */
  started: string | null
}

const KEY = 'modelforge.wizard'
const HANDED_OVER = 'modelforge.again'
const TASKS: readonly Task[] = ['text-generation', 'summarization', 'extractive-question-answering']

export function emptyDraft(): Draft {
  return {
    step: 'task',
    task: null,
    model: null,
    otherModel: '',
    dataset: null,
    values: {},
    advanced: false,
    started: null,
  }
}

/** The kept draft. What does not look like one any more is left out, field by field. */
export function readDraft(storage: Storage): Draft {
  const draft = emptyDraft()
  let kept: unknown
  try {
    kept = JSON.parse(storage.getItem(KEY) ?? 'null')
  } catch {
    return draft
  }
  if (!isRecord(kept)) return draft
  const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : null)
  draft.step = STEPS.find((step) => step === kept.step) ?? 'task'
  draft.task = TASKS.find((task) => task === kept.task) ?? null
  draft.otherModel = text(kept.otherModel) ?? ''
  draft.dataset = text(kept.dataset)
  draft.advanced = kept.advanced === true
  draft.started = text(kept.started)
  if (isRecord(kept.model)) {
    const name = text(kept.model.name)
    if (name) draft.model = { name, title: text(kept.model.title) ?? name, fitted: valuesOf(kept.model.fitted) }
  }
  draft.values = valuesOf(kept.values)
  return draft
}

/** Settings that another screen asked to train with, such as those of a finished model; given out once. */
export function takeHandedOver(storage: Storage): Draft | null {
  const text = storage.getItem(HANDED_OVER)
  storage.removeItem(HANDED_OVER)
  let config: unknown
  try {
    config = JSON.parse(text ?? 'null')
  } catch {
    return null
  }
  if (!isRecord(config)) return null
  const { task, model_name, dataset, name: _, ...values } = config
  const draft = emptyDraft()
  draft.task = TASKS.find((one) => one === task) ?? null
  if (typeof model_name === 'string') draft.model = { name: model_name, title: lastPart(model_name), fitted: {} }
  if (typeof dataset === 'string') draft.dataset = dataset
  draft.values = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null))
  draft.step = 'review'
  return draft
}

/** A storage that is full or switched off costs the memory of the draft, not the wizard. */
export function writeDraft(storage: Storage, draft: Draft): void {
  try {
    storage.setItem(KEY, JSON.stringify(draft))
  } catch {
    return
  }
}

/** The run that the draft asks for; null until model, task and data are chosen. */
export function requestOf(draft: Draft, suggested: Values): Request | null {
  const { task, model, dataset } = draft
  if (!task || !model || !dataset) return null
  const values: Values = { ...suggestedFor(draft, suggested), ...draft.values }
  return { ...values, task, model_name: model.name, dataset }
}

/** What holds where the person changes nothing. */
export function suggestedFor(draft: Draft, suggested: Values): Values {
  const values = { ...suggested, ...draft.model?.fitted }
  const strategy = draft.values.strategy ?? values.strategy ?? 'sft'
  // The suggested learning rate is one for supervised tuning; the other strategies have their own default.
  if (strategy !== 'sft' && strategy !== 'qlora') delete values.learning_rate
  return values
}

/** The name that the model gets when none is typed, as the backend makes it. */
export function defaultName(draft: Draft): string | null {
  if (!draft.model || !draft.dataset) return null
  const file = lastPart(draft.dataset)
  const stem = draft.dataset.startsWith('sample:') ? file : file.replace(/(?<=.)\.[^.]*$/, '')
  return `${lastPart(draft.model.name)}-${stem}`
}

/** The last part of a path, a repository's or a sample's name. */
export function lastPart(name: string): string {
  return name.split(/[/\\:]/).findLast((part) => part !== '') ?? name
}

function valuesOf(kept: unknown): Values {
  return isRecord(kept) ? (kept as Values) : {}
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
