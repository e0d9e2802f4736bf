// What the app asks of its host: the desktop window or a browser in front of the server. Both behave the same to callers.
import type { Operations, Streams } from '../api/generated'

export type OperationName = keyof Operations
export type StreamName = keyof Streams

export interface CallOptions {
  /** Gives up waiting: the promise is rejected with an `AbortError`. */
  signal?: AbortSignal
}

export interface StreamOptions {
  /** Ends the stream: the promise resolves, no item comes any more, and the backend stops working on it. */
  signal?: AbortSignal
  /** Goes on behind the item with this id. */
  after?: number
}

/** Bytes of a transfer. */
export type OnProgress = (done: number, total: number) => void

/** A dataset as other operations take it. */
export interface PickedDataset {
  dataset: string
}

/** Something dragged over the window. */
export type FileDrop =
  | { type: 'over' }
  | { type: 'leave' }
  /** `dataset` brings the file to where the backend can read it. */
  | { type: 'drop'; name: string; dataset: (onProgress?: OnProgress) => Promise<PickedDataset> }

/** The local server that other programs can use. */
export interface ServerStatus {
  running: boolean
  url: string | null
  token: string | null
}

/** What only a window of its own has. */
export interface Shell {
  /** The pages can be used. Gives the datasets that the program was started with. */
  ready(): Promise<string[]>
  /** The texts of menus and tray by their ids. Whether there is a tray that a hidden window comes back from. */
  texts(texts: Record<string, string>): Promise<boolean>
  /** How far the run is, 0 to 1, and a line about it; null without one. */
  progress(fraction: number | null, line: string | null): Promise<void>
  /** What to do about closing while a run is under way. */
  close(how: 'background' | 'leave' | 'pause'): Promise<void>
  /** Keeps what went wrong here in the log. */
  report(message: string): void
  openLog(): Promise<void>
  /** An entry of the menu was chosen. */
  onMenu(handler: (id: string) => void): () => void
  /** The window is to be closed while a run is under way. */
  onCloseAsked(handler: () => void): () => void
  /** Datasets to open. */
  onOpenDatasets(handler: (paths: string[]) => void): () => void
  /** The size of everything; 1 is the usual. */
  zoom(factor: number): Promise<void>
  serverStatus(): Promise<ServerStatus>
  /** On this port; 0 takes a free one. */
  serverStart(port: number): Promise<ServerStatus>
  serverStop(): Promise<ServerStatus>
}

export interface Platform {
  readonly kind: 'tauri' | 'http'

  /** Only in the desktop window. */
  readonly shell?: Shell

  /** Does an operation. Rejected with an `AppError`. */
  call<Op extends OperationName>(
    op: Op,
    input: Operations[Op]['input'],
    options?: CallOptions,
  ): Promise<Operations[Op]['output']>

  /** Follows an operation that answers item by item; resolves when it is over. Rejected with an `AppError`. */
  stream<Op extends StreamName>(
    op: Op,
    input: Streams[Op]['input'],
    onItem: (item: Streams[Op]['item'], id: number | null) => void,
    options?: StreamOptions,
  ): Promise<void>

  /** Lets the person choose a dataset file; null when they choose none. */
  pickDataset(onProgress?: OnProgress): Promise<PickedDataset | null>

  /** Sends a file to the backend; only where the backend cannot read it by its path. */
  uploadDataset?(file: File, onProgress?: OnProgress, signal?: AbortSignal): Promise<PickedDataset>

  /** Tells of files dragged over the window; returns what ends that. */
  onFileDrop(handler: (drop: FileDrop) => void): () => void

  /** Whether this host can choose and show folders of the machine that the backend runs on. */
  readonly canOpenFolder: boolean

  /** Shows a folder in the system's file manager. */
  openFolder(path: string): Promise<void>

  /** Opens a page outside of the app. */
  openUrl(url: string): Promise<void>

  /** Lets the person choose a folder; null when they choose none, or where the host cannot. */
  pickFolder(): Promise<string | null>

  /** Tells something while the window is not looked at, where the person allowed that. */
  notify(title: string, body: string): Promise<void>
}
