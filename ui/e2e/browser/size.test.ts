// What has to arrive before a screen is there: scripts, styles and texts, counted as gzip packs them.
import { gzipSync } from 'node:zlib'
import type { Browser, Response } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch } from '../browser'
import { serve, type Server } from '../server'

const MOST = 180_000

let server: Server
let browser: Browser

beforeAll(async () => {
  server = await serve()
  browser = await launch()
})

afterAll(async () => {
  await browser?.close()
  await server?.stop()
})

for (const screen of ['start', 'tune', 'runs', 'models', 'chat', 'settings']) {
  test(`${screen} is there after at most ${MOST / 1000} kB`, async () => {
    const page = await browser.newPage({ locale: 'en-GB' })
    const responses: Response[] = []
    page.on('response', (response) => responses.push(response))
    await page.goto(`${server.url}/#/${screen}`)
    await page.locator('main h1').first().waitFor()
    const parts = responses.filter((response) => !response.url().includes('/api/'))
    const sizes = await Promise.all(parts.map(async (response) => gzipSync(await response.body()).length))
    const size = sizes.reduce((sum, part) => sum + part, 0)
    console.log(`${screen}: ${(size / 1000).toFixed(0)} kB in ${parts.length} parts`)
    expect(size).toBeGreaterThan(10_000)
    expect(size, 'bytes, gzipped').toBeLessThanOrEqual(MOST)
    await page.close()
  })
}
