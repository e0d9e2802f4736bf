// Settings that another screen, or a file opened with the app, hands to the wizard, which takes them when it opens.
import { tick } from 'svelte'
import type { FinetuneStartTrainingInput } from '../api/generated'

const KEY = 'modelforge.again'

/** Any settings of a run; null means the default, as in those of a finished one. */
export type Given = { [Name in keyof FinetuneStartTrainingInput]?: FinetuneStartTrainingInput[Name] | null }

export const prefill = {
  /** Hands some settings over and goes to the wizard, which fills in the rest. */
  async give(given: Given): Promise<void> {
    sessionStorage.setItem(KEY, JSON.stringify(given))
    if (location.hash.startsWith('#/tune')) {
      // It is open already: it is left, to be opened anew.
      const left = new Promise((resolve) => window.addEventListener('hashchange', resolve, { once: true }))
      location.replace('#/start')
      await left
      await tick()
    }
    location.hash = '#/tune'
  },
}
