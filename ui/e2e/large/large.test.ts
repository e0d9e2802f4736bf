// Years of use: nothing that the app keeps makes its screens slow.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch } from '../browser'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeModels, writeRun, writeRuns } from '../large'
import { serve, type Server } from '../server'

const MODELS = 10_000
const RUNS = 1_000
const STEPS = 720_000

let made: string
let server: Server
let browser: Browser
let page: Page
let long: string

beforeAll(async () => {
  made = mkdtempSync(join(tmpdir(), 'modelforge-large-'))
  writeModels(made, MODELS)
  writeRuns(made, RUNS)
  long = writeRun(made, RUNS, STEPS)
  server = await serve(made)
  browser = await launch()
  page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
})

afterAll(async () => {
  await browser?.close()
  await server?.stop()
  rmSync(made, { recursive: true, force: true })
})

/** The longest time between two frames while the list under the pointer is scrolled from end to end. */
async function worstFrame(): Promise<number> {
  await page.evaluate(() => {
    const seen = { worst: 0, last: performance.now(), on: true }
    Object.assign(window, { seen })
    const frame = (now: number): void => {
      seen.worst = Math.max(seen.worst, now - seen.last)
      seen.last = now
      if (seen.on) requestAnimationFrame(frame)
    }
    requestAnimationFrame(frame)
  })
  await page.mouse.move(500, 500)
  for (let turn = 0; turn < 40; turn++) await page.mouse.wheel(0, turn < 20 ? 4000 : -4000)
  return page.evaluate(() => {
    const { seen } = window as unknown as { seen: { worst: number; on: boolean } }
    seen.on = false
    return seen.worst
  })
}

const rows = (): Promise<number> => page.locator('main tbody tr, main [role="row"], main [role="option"]').count()

test(`${MODELS} models are listed, few of them drawn`, async () => {
  await page.goto(`${server.url}/#/models`)
  await page.getByText(`Model ${MODELS - 1}`, { exact: true }).first().waitFor()
  console.log(`models: worst frame while scrolling ${(await worstFrame()).toFixed(0)} ms, ${await rows()} rows drawn`)
  expect(await rows(), 'only rows near the window are drawn').toBeLessThan(200)
})

test(`${RUNS} runs are listed, few of them drawn`, async () => {
  await page.goto(`${server.url}/#/runs`)
  await page.getByText(`Run ${RUNS - 1}`, { exact: true }).first().waitFor()
  console.log(`runs: worst frame while scrolling ${(await worstFrame()).toFixed(0)} ms, ${await rows()} rows drawn`)
  expect(await rows(), 'only rows near the window are drawn').toBeLessThan(200)
})

test(`a run of ${STEPS} steps is drawn whole in bounded memory`, async () => {
  const start = performance.now()
  await page.goto(`${server.url}/#/runs/${long}`)
  await page.getByText(/720[,.]000/).first().waitFor()
  await page.getByRole('heading', { level: 1, name: `Run ${RUNS}` }).waitFor()
  await page.waitForFunction(() => document.querySelectorAll('main canvas, main .plot svg').length > 0)
  const session = await page.context().newCDPSession(page)
  await session.send('HeapProfiler.collectGarbage')
  const { usedSize } = (await session.send('Runtime.getHeapUsage')) as { usedSize: number }
  console.log(`${STEPS} steps: ${((performance.now() - start) / 1000).toFixed(1)} s, heap ${(usedSize / 1e6).toFixed(0)} MB`)
  expect(usedSize, 'what is kept of a run does not grow with its length').toBeLessThan(150e6)
})
