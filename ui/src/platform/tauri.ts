// The host that is the desktop window: operations as Tauri commands, streams over Tauri channels.
import { Channel, invoke } from '@tauri-apps/api/core'
import { AppError } from './error'
import { tauriShell } from './tauri-shell'
import type { FileDrop, PickedDataset, Platform } from './types'

interface ChannelItem {
  id: number | null
  data: unknown
}

export const tauriPlatform: Platform = {
  kind: 'tauri',
  shell: tauriShell,

  async call(op, input, options) {
    const answer = invoke(op, { ...input }).catch(rethrow)
    return untilAborted(answer, options?.signal) as never
  },

  async stream(op, input, onItem, { signal, after } = {}) {
    if (signal?.aborted) return
    const channel = new Channel<ChannelItem>()
    let arrived = 0
    let sent = Infinity
    let ended = false
    // Large items reach the page after the command's answer, which tells how many there are.
    await new Promise<void>((resolve, reject) => {
      const end = (): void => {
        ended = true
        resolve()
      }
      channel.onmessage = ({ data, id }) => {
        if (ended) return
        arrived++
        try {
          onItem(data as never, id)
        } catch (thrown) {
          ended = true
          reject(thrown)
        }
        if (arrived >= sent) end()
      }
      signal?.addEventListener(
        'abort',
        () => {
          end()
          // A stream that has ended by itself is not there any more, which is what is wanted.
          invoke('close_stream', { channel: channel.id }).catch(() => {})
        },
        { once: true },
      )
      const fields = after === undefined ? input : { ...input, after }
      invoke<number>(op, { ...fields, channel }).then(
        (count) => {
          sent = count
          if (arrived >= sent) end()
        },
        (thrown) => {
          ended = true
          reject(failure(thrown))
        },
      )
    })
  },

  async pickDataset() {
    const { open } = await import('@tauri-apps/plugin-dialog')
    const extensions = ['jsonl', 'json', 'csv', 'parquet']
    const path = await open({ multiple: false, directory: false, filters: [{ name: 'JSONL, JSON, CSV, Parquet', extensions }] })
    return path === null ? null : { dataset: path }
  },

  onFileDrop(handler) {
    let ended = false
    let unlisten: (() => void) | undefined
    void listenForDrops((drop) => ended || handler(drop)).then((stop) => {
      if (ended) stop()
      else unlisten = stop
    })
    return () => {
      ended = true
      unlisten?.()
    }
  },

  canOpenFolder: true,

  async openFolder(path) {
    await invoke('shell_open_folder', { path }).catch(rethrow)
  },

  async openUrl(url) {
    const { openUrl } = await import('@tauri-apps/plugin-opener')
    await openUrl(url).catch(rethrow)
  },

  async pickFolder() {
    const { open } = await import('@tauri-apps/plugin-dialog')
    return open({ multiple: false, directory: true })
  },

  async notify(title, body) {
    const allowed =
      (await invoke<boolean | null>('plugin:notification|is_permission_granted')) ??
      (await invoke<string>('plugin:notification|request_permission')) === 'granted'
    if (allowed) await invoke('plugin:notification|notify', { options: { title, body } })
  },
}

async function listenForDrops(handler: (drop: FileDrop) => void): Promise<() => void> {
  const { getCurrentWebview } = await import('@tauri-apps/api/webview')
  return getCurrentWebview().onDragDropEvent(({ payload }) => {
    if (payload.type === 'enter') {
      handler({ type: 'over' })
    } else if (payload.type === 'leave') {
      handler({ type: 'leave' })
    } else if (payload.type === 'drop') {
      const path = payload.paths[0]
      if (path === undefined) return handler({ type: 'leave' })
      const picked: PickedDataset = { dataset: path }
      handler({ type: 'drop', name: path.split(/[\\/]/).at(-1) ?? path, dataset: () => Promise.resolve(picked) })
    }
  })
}

/** A command goes on when nobody waits for it any more; its answer is dropped. */
function untilAborted<T>(answer: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return answer
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(new DOMException('Nobody waits for the answer.', 'AbortError'))
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    answer.then(resolve, reject)
  })
}

function failure(thrown: unknown): AppError {
  // Tauri itself rejects with a text, as for a command that it does not have.
  return typeof thrown === 'string' ? new AppError(404, thrown) : AppError.from(thrown)
}

function rethrow(thrown: unknown): never {
  throw failure(thrown)
}
