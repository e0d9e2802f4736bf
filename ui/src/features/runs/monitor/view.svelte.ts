// How the person likes the loss chart: kept from run to run and over a reload.

interface View {
  /** How much of the average stays from step to step. */
  smoothing: number
  scale: 'linear' | 'log'
}

const KEY = 'modelforge.lossChart'
const USUAL: View = { smoothing: 0.6, scale: 'linear' }

class LossView {
  #now = $state<View>(read())

  get smoothing(): number {
    return this.#now.smoothing
  }
  set smoothing(value: number) {
    this.#keep({ smoothing: value })
  }

  get scale(): View['scale'] {
    return this.#now.scale
  }
  set scale(value: View['scale']) {
    this.#keep({ scale: value })
  }

  #keep(change: Partial<View>): void {
    Object.assign(this.#now, change)
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#now))
    } catch {
      // Without storage it holds until the page is left.
    }
  }
}

export const view = new LossView()

function read(): View {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<View>
    const { smoothing = USUAL.smoothing, scale = USUAL.scale } = kept
    if (smoothing >= 0 && smoothing < 1 && (scale === 'linear' || scale === 'log')) return { smoothing, scale }
  } catch {
    // What is kept is no more readable: as usual.
  }
  return { ...USUAL }
}
