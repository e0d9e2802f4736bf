// The keys that work on every screen.
import { ROUTES } from '../routes'

const isApple = /Mac|iPhone|iPad/.test(navigator.userAgent)

/** What the key for commands is called on this system's keyboards. */
export const COMMAND_KEY = isApple ? '⌘' : 'Ctrl'

interface Acts {
  go: (path: string) => void
  help: () => void
}

/** Does what a key stands for. */
export function onKey(event: KeyboardEvent, acts: Acts): void {
  if (event.defaultPrevented || event.altKey) return
  const command = isApple ? event.metaKey : event.ctrlKey
  if (command && !event.shiftKey && /^[1-9]$/.test(event.key)) {
    const route = ROUTES[Number(event.key) - 1]
    if (!route) return
    event.preventDefault()
    acts.go(route.path)
  } else if (event.key === '?' && !command && !isTyping(event.target)) {
    event.preventDefault()
    acts.help()
  }
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches('input, textarea, select'))
}
