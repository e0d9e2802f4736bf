// The models on this machine that others are tuned from: those of the Hub's cache, and the one that ships with the app.
import { call } from '../api/client'
import type { PossibleModel, Task } from '../api/generated'
import { Collection } from './collection.svelte'

export const STARTER = 'modelforge/starter'

export interface BaseModel {
  /** As runs and chats take it: `owner/name`. */
  readonly id: string
  /** What people call it. */
  readonly title: string
  /** Absent for the one that is part of the app. */
  readonly path: string | null
  /** All of its snapshots together; null for the one that is part of the app. */
  readonly bytes: number | null
  /** What the catalogue tells of it; null for a model that is not in there. */
  readonly known: Pick<PossibleModel, 'parameters' | 'license' | 'context_length' | 'tasks'> | null
}

const TASKS: Task[] = ['text-generation', 'summarization', 'extractive-question-answering']

async function all(): Promise<BaseModel[]> {
  const [storage, catalogues] = await Promise.all([
    call('storage_usage', {}),
    Promise.all(TASKS.map((task) => call('finetune_catalogue', { task }))),
  ])
  const known = new Map(catalogues.flatMap(({ possible }) => possible.map((model) => [model.name, model] as const)))
  const cached = storage.cached.flatMap(({ name, kind, base_model, bytes }): BaseModel[] => {
    if (kind !== 'model' || base_model === null) return []
    const entry = known.get(name)
    return [{ id: name, title: entry?.title ?? nameOf(name), path: base_model, bytes, known: entry ?? null }]
  })
  const starter = known.get(STARTER)
  if (!starter) return cached
  return [...cached, { id: STARTER, title: starter.title, path: null, bytes: null, known: starter }]
}

/** What people call a base model: its title where it is known, the end of its repository's or folder's name. */
export function baseTitle(id: string): string {
  return baseModels.get(id)?.title ?? nameOf(id)
}

function nameOf(id: string): string {
  return id.split(/[\\/]/).findLast((part) => part !== '') ?? id
}

export const baseModels = new Collection<BaseModel>(all, (model) => model.id)
