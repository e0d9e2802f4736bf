// Several runs: one trains, the others wait, are moved by hand and begin by themselves; reloading shows all of it again.
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { launch, look, SHOTS } from '../browser'
import { serve, type Server } from '../server'

let server: Server
let second: Server | undefined
let browser: Browser
let page: Page
let first: string

beforeAll(async () => {
  server = await serve()
  browser = await launch()
  page = await browser.newPage({ viewport: { width: 1280, height: 800 }, locale: 'en-GB' })
  page.setDefaultTimeout(30_000)
})

afterAll(async () => {
  await browser?.close()
  // Engines outlive their server.
  await post('queue/hold', { held: true })
  const runs = (await (await fetch(`${server.url}/api/runs`)).json()) as { job_id: string; status: string }[]
  for (const { job_id } of runs.filter(({ status }) => status === 'running')) await post(`runs/${job_id}/stop`, { keep: false })
  const active = async (): Promise<boolean> => ((await (await fetch(`${server.url}/api/finetune/status`)).json()) as { status: string }).status === 'running'
  for (let turn = 0; turn < 200 && (await active()); turn++) await new Promise((resolve) => setTimeout(resolve, 100))
  await second?.stop()
  await server?.stop()
})

afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') await page.screenshot({ path: join(SHOTS, `failure-${task.name.slice(0, 20)}.png`) })
})

async function post<T>(path: string, body: object): Promise<T> {
  const answer = await fetch(`${server.url}/api/${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  expect(answer.status, path).toBe(200)
  return (await answer.json()) as T
}

const request = (name: string, max_steps: number): object => ({
  task: 'text-generation',
  model_name: 'modelforge/starter',
  dataset: 'sample:order-slips',
  per_device_train_batch_size: 4,
  max_steps,
  eval_steps: 100_000,
  save_steps: 100_000,
  eval_answers: 0,
  name,
})

const names = (): Promise<string[]> => page.getByRole('region', { name: /runs? waits?/ }).getByRole('listitem').getByRole('link').allTextContents()

test('a run that is started while another trains waits for its turn', async () => {
  first = (await post<{ job_id: string }>('finetune/start_training', request('Night shift', 100_000))).job_id
  await page.goto(`${server.url}/#/tune`)
  await page.getByRole('radio', { name: /Write answers/ }).check({ force: true })
  await page.getByRole('link', { name: 'Continue to model' }).click()
  await page.getByRole('radio', { name: /[Ss]tarter/ }).first().check({ force: true })
  await page.getByRole('link', { name: 'Continue to data' }).click()
  await page.getByRole('button', { name: /^Order slips/ }).click()
  await page.getByRole('link', { name: 'Continue to settings' }).click()
  await page.getByRole('link', { name: 'Continue to review' }).click()
  const start = page.getByRole('button', { name: 'Start when the other is done' })
  await expect.poll(() => start.isEnabled(), { timeout: 30_000 }).toBe(true)
  await look(page, 'queue-review')
  await start.click()
  await page.getByText('Waiting, place 1 of 1.').waitFor()
  await look(page, 'queue-waiting-run')
})

test('waiting runs are moved by button and by hand, and taken out', async () => {
  for (const name of ['Second thoughts', 'A very long name of a run that nobody would give but somebody will', 'Last one']) await post('queue', request(name, 3))
  await page.goto(`${server.url}/#/runs`)
  const before = await (await page.getByRole('heading', { name: '4 runs wait' }).waitFor(), names())
  expect(before).toHaveLength(4)
  await page.getByRole('button', { name: 'Move Last one up' }).click()
  await expect.poll(names).toEqual([before[0], before[1], 'Last one', before[2]])
  const handle = await page.getByRole('listitem').filter({ hasText: 'Last one' }).locator('.handle').boundingBox()
  if (!handle) throw new Error('a waiting run has a handle')
  await page.mouse.move(handle.x + 5, handle.y + 10)
  await page.mouse.down()
  await page.mouse.move(handle.x + 5, handle.y - 60, { steps: 5 })
  await page.mouse.move(handle.x + 5, handle.y - 94, { steps: 5 })
  await page.mouse.up()
  await expect.poll(names).toEqual(['Last one', before[0], before[1], before[2]])
  await expect.poll(async () => ((await (await fetch(`${server.url}/api/queue`)).json()) as { runs: string[] }).runs.length).toBe(4)
  await look(page, 'queue-runs')
  await page.reload()
  await page.getByRole('heading', { name: '4 runs wait' }).waitFor()
  expect(await names(), 'a reload changes nothing').toEqual(['Last one', before[0], before[1], before[2]])
  await page.getByRole('button', { name: 'Take Second thoughts out of the queue' }).click()
  await page.getByRole('alertdialog').getByRole('button', { name: 'Take it out' }).click()
  await page.getByRole('heading', { name: '3 runs wait' }).waitFor()
  await page.goto(`${server.url}/#/start`)
  await page.getByText('3 runs wait, next Last one').waitFor()
  await look(page, 'queue-start')
})

test('a pause holds the queue; a second app is told; what waits begins by itself', async () => {
  await page.goto(`${server.url}/#/runs/${first}`)
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByText(/^Paused at step/).first().waitFor()
  await look(page, 'queue-paused-run')
  await page.goto(`${server.url}/#/runs`)
  await page.getByText('The queue is on hold.').waitFor()
  await look(page, 'queue-held')
  second = await serve({ folder: server.folder })
  await page.goto(`${second.url}/#/start`)
  await page.getByText('ModelForge is open twice').waitFor()
  await look(page, 'queue-second-app')
  await page.goto(`${server.url}/#/runs`)
  await page.getByRole('button', { name: 'Continue the queue' }).click()
  await expect.poll(() => page.getByRole('row', { name: /Last one/ }).getByText('Finished').count(), { timeout: 120_000 }).toBe(1)
})
