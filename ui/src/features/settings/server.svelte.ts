// The server that lets other programs on this computer use the models. Only the desktop window has it.
import { AppError } from '../../api/client'
import type { ServerStatus, Shell } from '../../platform/types'

const PORT_KEY = 'modelforge.server-port'
const USUAL_PORT = 8765

export class LocalServer {
  status = $state.raw<ServerStatus | null>(null)
  /** What stands in the field; it may be no port yet. */
  port = $state<number | null>(keptPort())
  busy = $state(false)
  error = $state.raw<AppError | null>(null)
  shown = $state(false)

  readonly #shell: Shell

  constructor(shell: Shell) {
    this.#shell = shell
  }

  get on(): boolean {
    return this.status?.running ?? false
  }

  get portIsBad(): boolean {
    return this.port === null || !Number.isInteger(this.port) || this.port < 1024 || this.port > 65_535
  }

  /** Where it listens once it is on. */
  get address(): string {
    return this.status?.url ?? `http://127.0.0.1:${this.port ?? USUAL_PORT}`
  }

  refresh(): Promise<void> {
    return this.#do(() => this.#shell.serverStatus())
  }

  async turn(on: boolean): Promise<void> {
    const { port } = this
    if (!on) return this.#do(() => this.#shell.serverStop())
    if (port === null || this.portIsBad) return
    await this.#do(() => this.#shell.serverStart(port))
    if (this.on) localStorage.setItem(PORT_KEY, String(port))
  }

  async #do(act: () => Promise<ServerStatus>): Promise<void> {
    this.busy = true
    this.error = null
    try {
      this.status = await act()
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.busy = false
  }
}

function keptPort(): number {
  return Number(localStorage.getItem(PORT_KEY)) || USUAL_PORT
}
