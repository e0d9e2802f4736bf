// Settings that another screen, or a file opened with the app, hands to the wizard. Kept over a reload until it takes them.
import type { FinetuneStartTrainingInput } from '../api/generated'

export type Given = Partial<FinetuneStartTrainingInput>

const KEY = 'modelforge.again'

class Prefill {
  /** What waits to be taken. */
  waiting = $state.raw<Given | null>(read())

  /** Hands some settings over and goes to the wizard, which fills in the rest. */
  give(given: Given): void {
    this.waiting = given
    sessionStorage.setItem(KEY, JSON.stringify(given))
    location.hash = '#/tune'
  }

  /** Gives what waits, once. */
  take(): Given | null {
    const given = this.waiting
    this.waiting = null
    sessionStorage.removeItem(KEY)
    return given
  }
}

export const prefill = new Prefill()

function read(): Given | null {
  try {
    const kept: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? 'null')
    return typeof kept === 'object' ? (kept as Given | null) : null
  } catch {
    return null
  }
}
