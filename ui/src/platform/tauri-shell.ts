// The commands and events of the desktop window itself.
import { invoke } from '@tauri-apps/api/core'
import { listen } from '@tauri-apps/api/event'
import { AppError } from './error'
import type { ServerStatus, Shell } from './types'

export const tauriShell: Shell = {
  ready: () => ask<string[]>('shell_ready'),
  texts: (texts) => ask<boolean>('shell_texts', { texts }),
  progress: (fraction, line) => ask('shell_progress', { fraction, line }),
  close: (how) => ask('shell_close', { how }),
  report: (message) => void ask('shell_report', { message }).catch(() => {}),
  openLog: () => ask('shell_open_log'),
  onMenu: (handler) => on<string>('shell://menu', handler),
  onCloseAsked: (handler) => on<null>('shell://close-asked', handler),
  onOpenDatasets: (handler) => on<string[]>('shell://open-datasets', handler),

  async zoom(factor) {
    const { getCurrentWebview } = await import('@tauri-apps/api/webview')
    await getCurrentWebview().setZoom(factor)
  },

  serverStatus: () => ask<ServerStatus>('server_status'),
  serverStart: (port) => ask<ServerStatus>('server_start', { port }),
  serverStop: () => ask<ServerStatus>('server_stop'),
}

function ask<T = void>(command: string, input?: Record<string, unknown>): Promise<T> {
  return invoke<T>(command, input).catch((thrown: unknown) => {
    throw AppError.from(thrown)
  })
}

function on<T>(event: string, handler: (payload: T) => void): () => void {
  const listening = listen<T>(event, ({ payload }) => handler(payload))
  return () => void listening.then((stop) => stop())
}
