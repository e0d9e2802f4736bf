// Whom one can chat with: the finished models, and the base models on this machine.
import type { Task } from '../../api/generated'
import { baseModels, baseTitle } from '../../state/base-models.svelte'
import { models } from '../../state'
import { read, write } from './kept'
import type { Partner } from './session.svelte'

export interface Choice extends Partner {
  readonly title: string
  /** The base model that a finished model was tuned from, by the name people call it. */
  readonly base: string | null
}

const LAST = 'modelforge.chat.model'

class Partners {
  readonly tuned = $derived(
    models.list.map(
      (row): Choice => ({
        id: row.model_id,
        title: row.name,
        base: baseTitle(row.base_model),
        task: row.task as Task,
        tuned: true,
      }),
    ),
  )
  readonly bases = $derived(
    baseModels.list.map(({ id, title }): Choice => ({ id, title, base: null, task: null, tuned: false })),
  )
  readonly #byId = $derived(new Map([...this.tuned, ...this.bases].map((choice) => [choice.id, choice])))

  /** Whether the lists are still to come. */
  get loading(): boolean {
    return models.loading || baseModels.loading
  }

  ensure(): Promise<unknown> {
    return Promise.all([models.ensure(), baseModels.ensure()])
  }

  get(id: string | null): Choice | undefined {
    return id === null ? undefined : this.#byId.get(id)
  }

  /** The model to begin with: the one talked to last, else the newest, else a base model. */
  usual(): Choice | undefined {
    return this.get(read<string | null>(LAST, null)) ?? this.tuned[0] ?? this.bases[0]
  }

  remember(id: string): void {
    write(LAST, id)
  }
}

export const partners = new Partners()

/** Choices whose name or base has every word of a search, at most `most`, and how many more there are. */
export function search(choices: readonly Choice[], text: string, most: number): { found: Choice[]; more: number } {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  const all = choices.filter(({ title, base, id }) => {
    const haystack = `${title} ${base ?? ''} ${id}`.toLowerCase()
    return words.every((word) => haystack.includes(word))
  })
  return { found: all.slice(0, most), more: Math.max(0, all.length - most) }
}
