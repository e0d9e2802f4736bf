// Where one is: the address behind the hash, so that reload, back and forward work in the window and in a browser alike.
import { ROUTES, type Route } from './routes'

class Router {
  /** The parts of the address: `#/runs/train_1` is `['runs', 'train_1']`. */
  parts = $state.raw<readonly string[]>(read())
  /** What stands behind a question mark: `#/models/model_1?export=1`. */
  query = $state.raw(readQuery())

  readonly route = $derived<Route | undefined>(ROUTES.find((route) => route.path === this.parts[0]))
  readonly params = $derived(this.parts.slice(1))

  /** Follows the address; returns what ends that. */
  start(): () => void {
    const follow = (): void => {
      const parts = read()
      if (parts.join('/') !== this.parts.join('/')) this.parts = parts
      const query = readQuery()
      if (String(query) !== String(this.query)) this.query = query
    }
    follow()
    window.addEventListener('hashchange', follow)
    return () => window.removeEventListener('hashchange', follow)
  }
}

export const router = new Router()

/** Goes to a screen; `replace` leaves no way back to the one before. */
export function go(address: `#/${string}`, replace = false): void {
  if (replace) location.replace(address)
  else location.hash = address
}

function read(): string[] {
  const parts = location.hash.replace(/^#\/?|\?.*/g, '').split('/').filter(Boolean).map(decode)
  return parts.length > 0 ? parts : ['start']
}

function readQuery(): URLSearchParams {
  return new URLSearchParams(/\?(.*)/.exec(location.hash)?.[1])
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
