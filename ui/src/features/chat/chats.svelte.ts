// Which conversation is open. One that is being answered goes on while another is looked at.
import { Session } from './session.svelte'

class Open {
  session = $state.raw(new Session())
  readonly #answering = new Set<Session>()

  /** Opens a kept conversation. */
  open(id: string): Session {
    if (id === this.session.id) return this.session
    this.#leave()
    const running = [...this.#answering].find((session) => session.id === id)
    this.session = running ?? new Session()
    if (!running) void this.session.load(id)
    return this.session
  }

  /** Begins a new conversation with the same model. */
  fresh(): Session {
    const before = this.session
    if (before.isNew) return before
    this.#leave()
    this.session = new Session()
    this.session.model = before.model
    return this.session
  }

  /** Whether this conversation is answered while another may be looked at. */
  answers(id: string): boolean {
    return [this.session, ...this.#answering].some((session) => session.id === id && session.busy)
  }

  #leave(): void {
    for (const session of this.#answering) if (!session.busy) this.#answering.delete(session)
    if (this.session.busy) this.#answering.add(this.session)
  }
}

export const chats = new Open()
