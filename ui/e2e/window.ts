// The real window on a screen in memory, driven by WebKitWebDriver as WebKitGTK brings it.
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { By, Capabilities, until, WebDriver } from 'selenium-webdriver'
import { Executor, HttpClient } from 'selenium-webdriver/http/index.js'
import { SHOTS } from './browser'
import { ended, environment, program } from './server'

export interface Window {
  driver: WebDriver
  folder: string
  /** Milliseconds from asking for the window until its pages can be used. */
  startMs: number
  /** Keeps a picture of the pages. */
  shoot(name: string): Promise<void>
  /** Presses keys as a keyboard does, so that menus see them too: `ctrl+q`. */
  press(keys: string): Promise<void>
  /** Types a path into the system's dialog for files, which must be about to open, and confirms it. */
  chooseFile(path: string): Promise<void>
  /** Takes the window off the screen, as when the person turns to something else. */
  lookAway(): Promise<void>
  /** Starts the program once more, with a file to open; settles when that one has ended. */
  startAgain(file: string): Promise<void>
  /** Waits for the program to end by itself. */
  ended(): Promise<void>
  /** Ends the window as killing it does, where it has not ended by itself, and starts another one on the same data folder. */
  restart(): Promise<void>
  /** Notifications so far, as they went over the bus. */
  notifications(): string
  stop(): Promise<void>
}

const run = promisify(execFile)

/** A session bus on which nothing answers: no keychain, no daemon of the person who runs the tests. */
const BUS = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

export async function openWindow(): Promise<Window> {
  const folder = mkdtempSync(join(tmpdir(), 'modelforge-window-'))
  const screen = spawn('Xvfb', ['-displayfd', '1', '-screen', '0', '1400x900x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const display = `:${await firstLine(screen)}`
  writeFileSync(join(folder, 'bus.conf'), BUS)
  const bus = spawn('dbus-daemon', [`--config-file=${join(folder, 'bus.conf')}`, '--print-address', '--nofork'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const port = await freePort()
  const env: NodeJS.ProcessEnv = {
    ...environment(folder),
    DBUS_SESSION_BUS_ADDRESS: await firstLine(bus),
    DISPLAY: display,
    WAYLAND_DISPLAY: '',
    XDG_CONFIG_HOME: join(folder, 'config'),
    XDG_DATA_HOME: join(folder, 'data'),
    GDK_BACKEND: 'x11',
    LIBGL_ALWAYS_SOFTWARE: '1',
    // Tauri lets itself be driven only where it is told to.
    TAURI_WEBVIEW_AUTOMATION: 'true',
  }
  const service = spawn('WebKitWebDriver', [`--port=${port}`, '--host=127.0.0.1'], { env, stdio: 'inherit' })
  const monitor = spawn('dbus-monitor', ["interface='org.freedesktop.Notifications',member='Notify'"], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let notified = ''
  monitor.stdout.on('data', (piece: Buffer) => (notified += piece.toString()))
  await answers(port)

  /** The program's windows on the screen, the one with the pages first. */
  const visible = async (): Promise<string[]> => {
    const found = await run('xdotool', ['search', '--onlyvisible', '--class', 'modelforge-desktop'], { env }).catch(() => ({ stdout: '' }))
    return found.stdout.split('\n').filter((id) => id !== '')
  }
  const start = async (): Promise<[WebDriver, number]> => {
    const asked = performance.now()
    const driver = WebDriver.createSession(
      new Executor(new HttpClient(`http://127.0.0.1:${port}`)),
      new Capabilities({ 'webkitgtk:browserOptions': { binary: program('MODELFORGE_DESKTOP_BIN'), args: [] } }),
    )
    await driver.wait(until.elementLocated(By.css('main h1')), 60_000, 'the pages are there', 10)
    return [driver, performance.now() - asked]
  }
  const [driver, startMs] = await start()
  const window: Window = {
    driver,
    folder,
    startMs,
    async shoot(name) {
      mkdirSync(SHOTS, { recursive: true })
      writeFileSync(join(SHOTS, `window-${name}.png`), await window.driver.takeScreenshot(), 'base64')
    },
    async press(keys) {
      const [id] = await visible()
      if (!id) throw new Error('the window is not on the screen')
      await run('xdotool', ['windowfocus', '--sync', id, 'key', keys], { env })
    },
    async chooseFile(path) {
      const [main] = await visible()
      let dialog: string | undefined
      while (!dialog) dialog = (await visible()).find((id) => id !== main)
      // The field for a path opens with a key of its own; typing at once would lose what comes before it is there.
      await run('xdotool', ['windowfocus', '--sync', dialog, 'key', '--delay', '500', 'ctrl+l'], { env })
      await run('xdotool', ['type', '--delay', '40', path], { env })
      // The first Return may only take what the dialog proposes.
      while ((await visible()).includes(dialog)) await run('xdotool', ['key', '--delay', '200', 'Return'], { env })
    },
    async lookAway() {
      for (const id of await visible()) await run('xdotool', ['windowunmap', id], { env })
    },
    async startAgain(file) {
      await run(program('MODELFORGE_DESKTOP_BIN'), [file], { env: { ...env, TAURI_WEBVIEW_AUTOMATION: '' }, timeout: 30_000 })
    },
    async ended() {
      for (;;) {
        const there = await window.driver.getTitle().then(
          () => true,
          () => false,
        )
        if (!there) return
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    },
    notifications: () => notified,
    async restart() {
      await window.driver.quit().catch(() => {})
      // A start beside one that is ending would hand over to it.
      while ((await visible()).length > 0) await new Promise((resolve) => setTimeout(resolve, 50))
      ;[window.driver, window.startMs] = await start()
    },
    async stop() {
      await window.driver.quit().catch(() => {})
      for (const child of [service, monitor, bus, screen]) await ended(child, 'SIGTERM')
      rmSync(folder, { recursive: true, force: true })
    },
  }
  return window
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    if (child.stdout) createInterface({ input: child.stdout }).once('line', resolve)
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => (address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port'))))
    })
  })
}

async function answers(port: number): Promise<void> {
  const until = performance.now() + 30_000
  for (;;) {
    const up = await fetch(`http://127.0.0.1:${port}/status`).then(
      (answer) => answer.ok,
      () => false,
    )
    if (up) return
    if (performance.now() > until) throw new Error('WebKitWebDriver does not answer')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
