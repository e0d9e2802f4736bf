// The real window on a screen in memory, driven by WebKitWebDriver as WebKitGTK brings it.
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
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
  /** Ends the window as killing it does, and starts another one on the same data folder. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export async function openWindow(): Promise<Window> {
  const folder = mkdtempSync(join(tmpdir(), 'modelforge-window-'))
  const screen = spawn('Xvfb', ['-displayfd', '1', '-screen', '0', '1400x900x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const display = `:${await firstLine(screen)}`
  const port = await freePort()
  const service = spawn('WebKitWebDriver', [`--port=${port}`, '--host=127.0.0.1'], {
    env: {
      ...environment(folder),
      DISPLAY: display,
      WAYLAND_DISPLAY: '',
      XDG_CONFIG_HOME: join(folder, 'config'),
      XDG_DATA_HOME: join(folder, 'data'),
      GDK_BACKEND: 'x11',
      LIBGL_ALWAYS_SOFTWARE: '1',
      // Tauri lets itself be driven only where it is told to.
      TAURI_WEBVIEW_AUTOMATION: 'true',
    },
    stdio: 'inherit',
  })
  await answers(port)

  const start = async (): Promise<[WebDriver, number]> => {
    const asked = performance.now()
    const driver = WebDriver.createSession(
      new Executor(new HttpClient(`http://127.0.0.1:${port}`)),
      new Capabilities({ 'webkitgtk:browserOptions': { binary: program('MODELFORGE_DESKTOP_BIN'), args: [] } }),
    )
    await driver.wait(until.elementLocated(By.css('main h1')), 60_000)
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
    async restart() {
      await window.driver.quit()
      ;[window.driver, window.startMs] = await start()
    },
    async stop() {
      await window.driver.quit().catch(() => {})
      await ended(service, 'SIGTERM')
      await ended(screen, 'SIGTERM')
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
