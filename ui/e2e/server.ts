// `modelforge serve` on a data folder of its own, as a person starts it.
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export interface Server {
  url: string
  /** Its process. */
  pid: number
  /** The data folder. */
  home: string
  /** A folder for the test's own files, which goes with the server. */
  folder: string
  stop(): Promise<void>
}

/** The program to test. */
export function program(variable: 'MODELFORGE_BIN' | 'MODELFORGE_DESKTOP_BIN'): string {
  const path = process.env[variable]
  if (!path) throw new Error(`${variable} must name the program; cargo xtask test sets it`)
  return path
}

/** What a program sees: no Hub, no token, no keychain of the person who runs the tests. */
export function environment(folder: string): NodeJS.ProcessEnv {
  const { HF_TOKEN: _token, DBUS_SESSION_BUS_ADDRESS: _bus, ...rest } = process.env
  return {
    ...rest,
    MODELFORGE_HOME: join(folder, 'home'),
    HF_HUB_CACHE: join(folder, 'hub'),
    HF_TOKEN_PATH: join(folder, 'no-token'),
    HF_ENDPOINT: 'http://127.0.0.1:9',
  }
}

/** Trains with these flags on the data folder of `folder`, as a person does in a terminal. */
export function train(folder: string, ...flags: string[]): void {
  execFileSync(program('MODELFORGE_BIN'), ['train', '--json', '--model-name', 'modelforge/starter', ...flags], {
    env: environment(folder),
    stdio: 'ignore',
  })
}

/** Whether the system lets a program mount a disk that only it sees. */
export function canMount(): boolean {
  return spawnSync('unshare', ['--user', '--map-root-user', '--mount', 'true']).status === 0
}

/** Starts a server on a folder of its own, or on one that was prepared. `disk`: the folder is a disk of so many bytes, which only the server sees. */
export async function serve({ folder = mkdtempSync(join(tmpdir(), 'modelforge-e2e-')), token = '', disk = 0, engine = '' } = {}): Promise<Server> {
  const env = { ...environment(folder), ...(token && { MODELFORGE_TOKEN: token }), ...(engine && { MODELFORGE_ENGINE: engine }) }
  const command = [program('MODELFORGE_BIN'), 'serve', '--port', '0']
  const mount = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', `mount -t tmpfs -o size=${disk} none '${folder}' && exec "$0" "$@"`]
  const [first = '', ...rest] = disk > 0 ? [...mount, ...command] : command
  const child = spawn(first, rest, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const url = await firstLine(child)
  return {
    url,
    pid: child.pid ?? 0,
    folder,
    home: join(folder, 'home'),
    async stop() {
      await ended(child, 'SIGTERM')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Ends a process and waits for it. */
export function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill(signal)
  })
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)))
    if (child.stdout) createInterface({ input: child.stdout }).once('line', (line) => resolve(line.trim()))
  })
}
