// What a machine that is too small for a run gets to see: before it starts, while it goes on with less, on a full disk, and making room.
import { appendFileSync, mkdtempSync, rmSync, truncateSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { launch, look, SHOTS } from '../browser'
import { canMount, program, serve, type Server } from '../server'

const WORDS = 'the ferry leaves the old pier at noon and returns before dusk with crates of blue glass '.repeat(14)

let browser: Browser
let page: Page
let outside: string
const servers: Server[] = []

beforeAll(async () => {
  outside = mkdtempSync(join(tmpdir(), 'modelforge-e2e-'))
  browser = await launch()
  page = await browser.newPage({ viewport: { width: 1280, height: 800 }, locale: 'en-GB' })
  page.setDefaultTimeout(30_000)
})

afterAll(async () => {
  await browser?.close()
  for (const server of servers) await server.stop()
  rmSync(outside, { recursive: true, force: true })
})

afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') await page.screenshot({ path: join(SHOTS, `failure-${task.name.slice(0, 20)}.png`) })
})

async function start(options?: Parameters<typeof serve>[0]): Promise<Server> {
  const server = await serve(options)
  servers.push(server)
  return server
}

/** A dataset of long rows. */
function rows(count: number): string {
  const path = join(outside, `${count}-ferries.jsonl`)
  writeFileSync(path, Array.from({ length: count }, (_, i) => `${JSON.stringify({ input: `Tell ${i}`, output: WORDS })}\n`).join(''))
  return path
}

async function begin(server: Server, changes: object): Promise<string> {
  const request = {
    task: 'text-generation', model_name: 'modelforge/starter', dataset: rows(16), provider: 'huggingface', max_seq_length: 256, eval_split: 0,
    per_device_train_batch_size: 8, gradient_accumulation_steps: 1, gradient_checkpointing: false, lora_dropout: 0, save_steps: 2, ...changes,
  }
  const answer = await fetch(`${server.url}/api/finetune/start_training`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) })
  const told = (await answer.json()) as { job_id: string }
  expect(answer.status, JSON.stringify(told)).toBe(200)
  return told.job_id
}

test('a run that cannot fit is offered the nearest settings that do', async () => {
  const server = await start()
  await page.goto(`${server.url}/#/tune`)
  await page.getByRole('radio', { name: /Write answers/ }).check({ force: true })
  await page.getByRole('link', { name: 'Continue to model' }).click()
  await page.getByRole('radio', { name: /[Ss]tarter/ }).first().check({ force: true })
  await page.getByRole('link', { name: 'Continue to data' }).click()
  const chooser = page.waitForEvent('filechooser')
  await page.getByRole('button', { name: 'Choose a file' }).click()
  await (await chooser).setFiles(rows(6000))
  await page.getByRole('link', { name: 'Continue to settings' }).click()
  await page.getByRole('radio', { name: 'Advanced' }).click()
  await page.getByLabel('Rows at once (batch size)').fill('4096')
  await page.getByRole('link', { name: 'Continue to review' }).click()
  const nearest = page.getByRole('button', { name: 'Use the nearest settings that fit' })
  await nearest.first().waitFor({ timeout: 60_000 })
  await page.getByText(/^It needs .* more than is free/).waitFor()
  await look(page, 'limits-too-large')
  await nearest.first().click()
  await page.getByText(/^It (just )?fits, with/).waitFor()
  await look(page, 'limits-nearest')
})

test('a run that runs out of memory goes on with less and says so', async () => {
  const engine = join(outside, 'engine.sh')
  writeFileSync(engine, `#!/bin/sh\nulimit -d 500000\nexec '${program('MODELFORGE_BIN')}' "$@"\n`, { mode: 0o755 })
  const server = await start({ engine })
  const job = await begin(server, { max_steps: 400, name: 'Ferries' })
  await page.goto(`${server.url}/#/runs/${job}`)
  await page.getByText('Memory ran out, so the run takes less at a time.').waitFor({ timeout: 120_000 })
  await page.getByText(/Rows at once: [124], [248] times per step/).first().waitFor()
  await page.getByRole('button', { name: 'Open log' }).click()
  await look(page, 'limits-fallback')
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByText(/^Paused at step/).first().waitFor({ timeout: 120_000 })
})

test('a full disk pauses the run; what is no longer needed makes room, and it goes on', async (context) => {
  if (!canMount()) return context.skip('this system lets no program mount a disk of its own')
  const server = await start({ disk: 160 << 20 })
  const first = await begin(server, { max_steps: 4, name: 'Harbour' })
  await page.goto(`${server.url}/#/runs/${first}`)
  await page.getByText('The model is finished').first().waitFor({ timeout: 120_000 })
  const job = await begin(server, { max_steps: 2000, name: 'Lighthouse', per_device_train_batch_size: 1 })
  await page.goto(`${server.url}/#/runs/${job}`)
  await page.getByRole('img', { name: /^Training loss/ }).first().waitFor({ timeout: 60_000 })
  // The server's own view of its disk.
  const ballast = join(`/proc/${server.pid}/root`, server.folder, 'ballast')
  const block = Buffer.alloc(64 << 10, 7)
  for (let size = block.length; size > 0;) {
    try {
      appendFileSync(ballast, block.subarray(0, size))
    } catch {
      size >>= 1
    }
  }
  await page.getByText(/^Paused by itself at step/).waitFor({ timeout: 60_000 })
  await look(page, 'limits-disk-full')
  await page.getByRole('link', { name: 'Open storage' }).click()
  await page.getByText('No longer needed').waitFor()
  await page.getByRole('button', { name: /Checkpoints of finished runs/ }).click()
  await page.getByText('Harbour').first().waitFor()
  await look(page, 'limits-storage')
  const line = page.getByRole('listitem').filter({ hasText: 'Checkpoints of finished runs' })
  await line.getByRole('button', { name: 'Delete…' }).click()
  await page.getByRole('alertdialog').waitFor()
  await look(page, 'limits-storage-ask')
  await page.getByRole('alertdialog').getByRole('button', { name: /^Delete/ }).click()
  await page.getByText(/ freed$/).waitFor()
  truncateSync(ballast, statSync(ballast).size >> 1)
  await page.goto(`${server.url}/#/runs/${job}`)
  await page.getByRole('button', { name: /^Resume|^Continue/ }).first().click()
  await page.getByRole('button', { name: 'Pause' }).waitFor()
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByText(/^Paused at step/).first().waitFor()
})
