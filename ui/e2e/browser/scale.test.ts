// Much of everything, through the real server: an hour of a run that tells two hundred steps a second, a thousand runs, ten
// thousand models. What is counted is asserted; times are printed, since they are the machine's.
import { execFileSync, spawn } from 'node:child_process'
import { appendFileSync, cpSync, linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, CDPSession, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch } from '../browser'
import { ended, serve, train, type Server } from '../server'

const STEPS = 720_000
const A_SECOND = 200
const RUNS = 1_000
const MODELS = 10_000

let folder: string
let server: Server
let browser: Browser
let page: Page
let devtools: CDPSession
let long: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'modelforge-scale-'))
  train(folder, '--task', 'text-generation', '--dataset', 'sample:order-slips', '--max-steps', '2')
  long = multiply(join(folder, 'home'))
  server = await serve({ folder })
  browser = await launch()
  page = await browser.newPage({ viewport: { width: 1280, height: 800 }, locale: 'en-GB' })
  page.setDefaultTimeout(60_000)
  devtools = await page.context().newCDPSession(page)
})

afterAll(async () => {
  await browser?.close()
  await server?.stop()
})

/** The time `index` seconds after a fixed one, as ids have it. */
function stamp(index: number): string {
  const [day, time] = new Date(Date.UTC(2026, 0, 1) + index * 1000).toISOString().split(/[T.]/)
  return `${day?.replaceAll('-', '')}_${time?.replaceAll(':', '')}`
}

/** Copies of the one real run and its model under other ids; the last run has an hour of steps. Gives that run's id. */
function multiply(home: string): string {
  const [run] = readdirSync(join(home, 'runs')).filter((name) => name.startsWith('train_'))
  const [model] = readdirSync(join(home, 'models'))
  if (!run || !model) throw new Error('the run made no model')
  const renamed = (text: string, index: number): string => text.replaceAll(run, `train_${stamp(index)}`).replaceAll(model, `model_${stamp(index)}`)
  const files = (folder: string): string[] => readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => name)

  const from = join(home, 'models', model)
  const manifest = readFileSync(join(from, 'modelforge.json'), 'utf8')
  const others = files(from).filter((name) => name !== 'modelforge.json')
  for (let index = 0; index < MODELS; index++) {
    const to = join(home, 'models', `model_${stamp(index)}`)
    mkdirSync(to)
    for (const name of others) linkSync(join(from, name), join(to, name))
    writeFileSync(join(to, 'modelforge.json'), renamed(manifest, index))
  }

  const source = join(home, 'runs', run)
  const spec = readFileSync(join(source, 'run.json'), 'utf8')
  const events = readFileSync(join(source, 'events.jsonl'), 'utf8')
  for (let index = 0; index < RUNS; index++) {
    const to = join(home, 'runs', `train_${stamp(index)}`)
    mkdirSync(to)
    for (const name of ['engine.lock', 'inputs.json']) cpSync(join(source, name), join(to, name))
    writeFileSync(join(to, 'run.json'), renamed(spec, index))
    writeFileSync(join(to, 'events.jsonl'), renamed(events, index))
  }

  const last = `train_${stamp(RUNS - 1)}`
  const log = join(home, 'runs', last, 'events.jsonl')
  const before = readFileSync(log, 'utf8').split('\n').filter((line) => line !== '')
  const head = before.slice(0, before.findIndex((line) => line.includes('"event":"step"'))).map((line) => line.replace(/"total_steps":\d+/, `"total_steps":${2 * STEPS}`))
  writeFileSync(log, head.map((line) => `${line}\n`).join(''))
  for (let done = 0; done < STEPS; done += 10_000) appendFileSync(log, lines(head.length, done, 10_000))
  return last
}

/** The events of `count` steps after `done`, in a log that starts with `head` other lines. */
function lines(head: number, done: number, count: number): string {
  let text = ''
  for (let step = done + 1; step <= done + count; step++) {
    text += `{"seq":${head + step - 1},"time":"2026-01-01T00:00:00Z","event":"step","step":${step},"total_steps":${2 * STEPS},"epoch":${step / STEPS},"loss":${2 + Math.sin(step / 9e4) + Math.sin(step * 12.9898) * 0.3},"learning_rate":0.0002,"grad_norm":${1 + Math.cos(step * 78.233) * 0.5},"tokens":2048,"trained_tokens":1024,"step_ms":5,"elapsed_ms":${step * 5}}\n`
  }
  return text
}

/** Megabytes that the page's scripts hold. */
async function heap(): Promise<number> {
  await devtools.send('HeapProfiler.collectGarbage')
  const { usedSize } = (await devtools.send('Runtime.getHeapUsage')) as { usedSize: number }
  return usedSize / 1e6
}

/** Times between the frames of some seconds, in ms, sorted. */
function frames(seconds: number): Promise<number[]> {
  return page.evaluate(
    (seconds) =>
      new Promise<number[]>((resolve) => {
        const gaps: number[] = []
        let last = performance.now()
        const until = last + seconds * 1000
        requestAnimationFrame(function frame(now: number) {
          gaps.push(now - last)
          last = now
          if (now < until) requestAnimationFrame(frame)
          else resolve(gaps.slice(1).sort((a, b) => a - b))
        })
      }),
    seconds,
  )
}

const tell = (what: string, gaps: number[]): void =>
  console.log(`${what}: ${gaps.length} frames, median ${gaps[gaps.length >> 1]?.toFixed(1)} ms, p99 ${gaps[Math.floor(gaps.length * 0.99)]?.toFixed(1)} ms, longest ${gaps.at(-1)?.toFixed(1)} ms`)

test('an hour of steps is drawn, and goes on being drawn, in bounded memory', async () => {
  const job = join(server.home, 'runs', long)
  // Who holds the lock is the run's engine.
  const engine = spawn('flock', [join(job, 'engine.lock'), 'sleep', '600'], { stdio: 'ignore' })
  try {
    const log = join(job, 'events.jsonl')
    const head = readFileSync(log, 'utf8').indexOf('"event":"step"') >= 0 ? execFileSync('grep', ['-vc', '"event":"step"', log], { encoding: 'utf8' }).trim() : '0'
    await page.goto(`${server.url}/#/models`)
    await page.getByRole('heading', { level: 1 }).first().waitFor()
    const before = await heap()
    const asked = performance.now()
    await page.evaluate((id) => (location.hash = `#/runs/${id}`), long)
    const bar = page.getByRole('progressbar', { name: 'Training steps' }).first()
    const at = async (): Promise<number> => Number((await bar.count()) ? await bar.getAttribute('aria-valuenow') : 0)
    await expect.poll(at, { timeout: 120_000, message: 'the last step of the hour is shown' }).toBe(STEPS)
    await page.locator('main canvas').first().waitFor()
    console.log(`${STEPS} steps shown after ${(performance.now() - asked).toFixed(0)} ms`)
    const full = await heap()

    let done = STEPS
    const writer = setInterval(() => {
      appendFileSync(log, lines(Number(head), done, A_SECOND / 20))
      done += A_SECOND / 20
    }, 50)
    const gaps = await frames(10)
    clearInterval(writer)
    tell(`while ${A_SECOND} steps a second come`, gaps)
    await expect.poll(at, { timeout: 30_000, message: 'what came meanwhile is shown' }).toBe(done)
    const after = await heap()
    console.log(`script memory: ${before.toFixed(1)} MB before, ${full.toFixed(1)} MB with the hour, ${after.toFixed(1)} MB after ${done - STEPS} more steps`)
    expect(full - before, 'megabytes for 720,000 steps: a bounded number of points').toBeLessThan(40)
    expect(after - full, 'megabytes for some more steps: none').toBeLessThan(5)
  } finally {
    await ended(engine, 'SIGKILL')
  }
})

for (const [what, count] of [['runs', RUNS], ['models', MODELS]] as const) {
  test(`${count} ${what} are listed with a bounded number of rows in the page`, async () => {
    await page.goto(`${server.url}/#/settings`)
    await page.getByRole('heading', { level: 1 }).first().waitFor()
    const asked = performance.now()
    await page.evaluate((what) => (location.hash = `#/${what}`), what)
    await page.locator('main tbody tr').nth(5).waitFor({ timeout: 60_000 })
    console.log(`${count} ${what} shown after ${(performance.now() - asked).toFixed(0)} ms`)
    const scrolled = frames(4)
    for (let turn = 0; turn < 40; turn++) await page.mouse.wheel(0, 2000)
    tell(`${what} while scrolling`, await scrolled)
    const nodes = await page.evaluate(() => document.querySelectorAll('main *').length)
    expect(nodes, `elements of the page with ${count} ${what}`).toBeLessThan(5_000)
  })
}
