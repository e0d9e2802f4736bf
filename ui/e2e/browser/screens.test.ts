// The states of the screens that the journey does not come to: nothing there yet, on its way, gone wrong, full. Each is
// checked for accessibility and kept as pictures.
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Browser, Page, Route } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { launch, look, shoot, SHOTS } from '../browser'
import { ended, environment, program, serve, train, type Server } from '../server'

const TASKS = { orders: 'text-generation', headlines: 'summarization', answers: 'extractive-question-answering' }
const SAMPLES = { orders: 'sample:order-slips', headlines: 'sample:lost-headlines', answers: 'sample:short-answers' }

let browser: Browser
let page: Page
const servers: Server[] = []

beforeAll(async () => {
  browser = await launch()
  page = await browser.newPage({ viewport: { width: 1280, height: 800 }, locale: 'en-GB' })
  page.setDefaultTimeout(30_000)
})

afterAll(async () => {
  await browser?.close()
  for (const server of servers) await server.stop()
})

afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') await page.screenshot({ path: join(SHOTS, `failure-${task.name.slice(0, 20)}.png`) })
})

async function start(options?: Parameters<typeof serve>[0]): Promise<Server> {
  const server = await serve(options)
  servers.push(server)
  return server
}

/** Goes to a screen and waits until something on it is there. */
async function open(server: Server, path: string, text: string | RegExp): Promise<void> {
  await page.goto(`${server.url}/#/${path}`)
  await page.getByText(text).first().waitFor()
}

/** The engine of a run is killed when it has done some steps, as when memory runs out. */
async function interrupted(folder: string): Promise<void> {
  const flags = ['--task', TASKS.orders, '--dataset', SAMPLES.orders, '--max-steps', '400', '--save-steps', '5', '--name', 'Night shift']
  const child = spawn(program('MODELFORGE_BIN'), ['train', '--json', '--model-name', 'modelforge/starter', ...flags], {
    env: environment(folder),
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const over = new Promise((resolve) => child.once('exit', resolve))
  for await (const line of createInterface({ input: child.stdout })) if (JSON.parse(line).step >= 8) break
  // The engine outlives who started it, so that it is there to be killed.
  for (const who of ['train --json', 'engine train']) execFileSync('pkill', ['-KILL', '-f', `${program('MODELFORGE_BIN')} ${who}`])
  await over
}

test('a new data folder: every screen says what will be there and how', async () => {
  const server = await start()
  await open(server, 'runs', 'Your runs appear here')
  await look(page, 'empty-runs')
  await open(server, 'models', 'Base models on this computer')
  await look(page, 'empty-models')
  await open(server, 'chat', /^Ask .* something/)
  await look(page, 'empty-chat')
  await open(server, 'no/such/page', 'There is no such page')
  await look(page, 'no-page')
  await open(server, 'runs/train_20200101_000000', 'This run is not here')
  await look(page, 'no-run')
  await open(server, 'models/model_20200101_000000', 'This model is not here')
  await look(page, 'no-model')
  await open(server, 'chat/no-such-chat', 'This chat is not here')
  await look(page, 'no-chat')
})

test('settings: licenses, keys, and a Hub that cannot be reached', async () => {
  const [server] = servers as [Server]
  await open(server, 'settings/about', 'License texts')
  await page.getByRole('button', { name: 'License texts' }).click()
  await page.getByRole('radio', { name: 'Libraries' }).or(page.getByRole('button', { name: 'Libraries' })).first().click()
  await page.getByText('candle-core', { exact: false }).first().waitFor()
  await page.locator('details', { hasText: 'svelte' }).first().waitFor()
  await look(page, 'settings-licenses')
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await page.locator('main h1').first().focus()
  await page.keyboard.press('?')
  await page.getByRole('dialog').getByText('Show this list').waitFor()
  await look(page, 'keys')
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await open(server, 'settings/hub', 'Not signed in')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByLabel('Access token').waitFor()
  await look(page, 'settings-token')
  await page.getByText('Where a token is looked for').click()
  await page.getByText('System keychain').waitFor()
  await look(page, 'settings-token-places')
})

test('wizard: a model that cannot be reached, a broken file, pairs that need another method', async () => {
  const [server] = servers as [Server]
  await open(server, 'tune', 'What should your model do?')
  await page.getByRole('radio', { name: /Write answers/ }).check({ force: true })
  await page.getByRole('link', { name: 'Continue to model' }).click()
  const other = page.getByRole('textbox', { name: 'Hub repository or local folder' })
  await other.fill('nobody/nothing')
  await page.getByText(/can't be reached|can't be used/).first().waitFor()
  await look(page, 'wizard-model-unreachable')
  await page.getByRole('radio', { name: /[Ss]tarter/ }).first().check({ force: true })
  await page.getByRole('link', { name: 'Continue to data' }).click()
  for (const [name, content, said] of [
    ['empty.jsonl', '', 'empty.jsonl is empty.'],
    ['broken.json', '[{"input": "a", ', 'No other row is left.'],
    ['pairs.jsonl', '{"prompt": "Hi", "chosen": "Hello, how are you?", "rejected": "What?"}\n'.repeat(20), /better and a worse answer/],
  ] as const) {
    const file = join(server.folder, name)
    writeFileSync(file, content)
    const replace = page.getByRole('button', { name: 'Replace' })
    if (await replace.isVisible()) await replace.click()
    const chooser = page.waitForEvent('filechooser')
    await page.getByRole('button', { name: 'Choose a file' }).click()
    await (await chooser).setFiles(file)
    await page.getByText(said).first().waitFor()
    await look(page, `wizard-data-${name.split('.')[0]}`)
  }
  await page.getByRole('link', { name: 'Continue to settings' }).click()
  for (const [name, method] of [['pairs', /Learn what is better/], ['rewards', /Learn from rewards/]] as const) {
    await page.getByRole('radio', { name: 'Simple' }).click()
    await page.getByRole('radio', { name: method }).check({ force: true })
    await look(page, `wizard-settings-${name}`)
    await page.getByRole('radio', { name: 'Advanced' }).click()
    await page.getByText('What only this method has').waitFor()
    await look(page, `wizard-advanced-${name}`)
  }
})

test('runs that learn from pairs and from rewards tell what their method measures', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'modelforge-e2e-'))
  const pairs = ['--task', TASKS.orders, '--dataset', 'sample:polite', '--eval-dataset', 'sample:polite', '--gradient-accumulation-steps', '1']
  train(folder, '--strategy', 'dpo', '--name', 'Kinder words', '--max-steps', '12', '--eval-steps', '4', '--learning-rate', '1e-3', ...pairs)
  const rollouts = ['--reward', 'regex', '--reward-pattern', '^The ', '--rollout-batch-size', '4', '--response-length', '12', '--eval-answers', '8']
  train(folder, '--strategy', 'rlhf', '--rl-algorithm', 'grpo', '--num-generations', '4', '--name', 'To the point', '--max-steps', '8', '--eval-steps', '4', '--kl-limit', '20', '--temperature', '1', '--learning-rate', '2e-3', ...rollouts, ...pairs)
  const server = await start({ folder })
  await open(server, 'runs', 'Kinder words')
  for (const [run, first] of [['Kinder words', /^right choices went from/i], ['To the point', /^reward went from/i]] as const) {
    await page.goto(`${server.url}/#/runs`)
    await page.getByRole('link', { name: run }).click()
    await page.getByRole('img', { name: first }).waitFor()
    await look(page, `run-${run.toLowerCase().replaceAll(' ', '-')}`)
    await page.getByRole('heading', { name: 'Measured while learning' }).scrollIntoViewIfNeeded()
    await look(page, `run-${run.toLowerCase().replaceAll(' ', '-')}-metrics`)
  }
  await page.goto(`${server.url}/#/models`)
  await page.getByText('To the point').first().click()
  await page.getByText('Made from').first().waitFor()
  await look(page, 'model-rewards')
})

test('a list that is on its way, and one that could not be loaded', async () => {
  const [server] = servers as [Server]
  const held: Route[] = []
  const isList = (url: URL): boolean => /^\/api\/runs\/?$/.test(url.pathname)
  await page.goto('about:blank')
  await page.route(isList, (route) => void held.push(route))
  await page.goto(`${server.url}/#/runs`)
  await page.locator('main .skel').first().waitFor()
  await shoot(page, 'loading-runs')
  const fail = (route: Route): Promise<void> => route.fulfill({ status: 500, json: { detail: 'An internal error occurred: the disk does not answer' } })
  await page.route(isList, fail)
  for (const route of held) await fail(route)
  await page.getByText('the disk does not answer').first().waitFor()
  await look(page, 'error-runs')
  await page.unroute(isList)
  // By itself with the next change, if nobody presses the button before.
  await page.getByRole('button', { name: 'Try again' }).first().click({ timeout: 2000 }).catch(() => {})
  await page.getByText('Your runs appear here').first().waitFor()

  const isApi = (url: URL): boolean => url.pathname.startsWith('/api/')
  await page.route(isApi, (route) => route.abort())
  await page.reload()
  await page.getByText('ModelForge does not answer').first().waitFor()
  await look(page, 'unreachable')
  await page.unroute(isApi)
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.getByText('Your runs appear here').first().waitFor()
})

test('a server with a token asks for it', async () => {
  const server = await start({ token: 'open-sesame-open-sesame-open-sesame' })
  await page.goto(server.url)
  await page.getByText('This server asks for its token').waitFor()
  await page.getByLabel('Token').fill('wrong')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('The server does not know this token').waitFor()
  await look(page, 'sign-in')
  await page.getByLabel('Token').fill('open-sesame-open-sesame-open-sesame')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('Teach a model something new, on this computer').waitFor()
})

test('a full library: runs of every ending beside each other', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'modelforge-e2e-'))
  const schooling = ['--per-device-train-batch-size', '4', '--gradient-accumulation-steps', '1', '--eval-steps', '6', '--eval-split', '0.05']
  train(folder, '--task', TASKS.orders, '--dataset', SAMPLES.orders, '--max-steps', '12', '--name', 'Order slips', '--learning-rate', '2e-3', ...schooling)
  train(folder, '--task', TASKS.orders, '--dataset', SAMPLES.orders, '--max-steps', '12', '--name', 'Order slips, slowly', '--learning-rate', '2e-4', ...schooling)
  train(folder, '--task', TASKS.headlines, '--dataset', SAMPLES.headlines, '--max-steps', '18', '--name', 'Lost and found', '--learning-rate', '2e-3', ...schooling)
  train(folder, '--task', TASKS.answers, '--dataset', SAMPLES.answers, '--max-steps', '12', '--name', 'Village reader', '--learning-rate', '2e-3', ...schooling)
  await interrupted(folder)
  const server = await start({ folder })

  await open(server, 'runs', 'Night shift')
  await page.getByRole('checkbox', { name: 'Compare Order slips', exact: true }).check()
  await page.getByRole('checkbox', { name: 'Compare Order slips, slowly' }).check()
  await page.getByRole('checkbox', { name: 'Compare Lost and found' }).check()
  await look(page, 'runs-full')
  await page.getByRole('link', { name: 'Compare' }).click()
  await page.getByText('Curves').waitFor()
  await page.locator('main canvas').first().waitFor()
  await look(page, 'runs-compare')

  await page.goto(`${server.url}/#/runs`)
  await page.getByRole('link', { name: 'Night shift' }).click()
  await page.getByText(/^Training was interrupted at step/).waitFor()
  await look(page, 'run-interrupted')
  await page.goto(`${server.url}/#/runs`)
  await page.getByRole('link', { name: 'Order slips', exact: true }).click()
  const chart = page.getByRole('img', { name: /^Training loss went from/ }).first()
  await chart.waitFor()
  await chart.focus()
  for (let press = 0; press < 12; press++) await page.keyboard.press('ArrowLeft')
  await shoot(page, 'run-chart-read')
  await page.getByRole('button', { name: 'Show as table' }).first().click()
  await page.locator('main figure table').first().waitFor()
  await page.getByRole('button', { name: 'Open log' }).click()
  await look(page, 'run-table-log')

  await open(server, 'start', 'Recent models')
  await look(page, 'start-full')
})

test('a push: what is asked, a name that is taken, on its way, and what the Hub has then', async () => {
  const server = servers.at(-1)!
  const account = { name: 'pia', fullname: null, kind: 'user', organizations: ['bikes'], token_role: 'write' }
  const whoami = (url: URL): boolean => url.pathname === '/api/hub/whoami'
  const upload = (url: URL): boolean => url.pathname === '/api/hub/upload'
  await page.route(whoami, (route) => route.fulfill({ json: { source: 'keychain', account } }))
  let items: object[] = [{ type: 'exists', repository: 'pia/Lost-and-found' }]
  await page.route(upload, (route) => {
    const body = items.map((item) => `data: ${JSON.stringify(item)}\n\n`).join('')
    return route.fulfill({ status: 200, contentType: 'text/event-stream', body })
  })
  await open(server, 'models', 'Lost and found')
  await page.getByText('Lost and found').first().click()
  await page.getByText('Made from').first().waitFor()
  await page.getByRole('button', { name: 'Push to Hub' }).last().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('radio', { name: 'Whole model' }).click()
  await look(page, 'push-form')
  await dialog.getByRole('button', { name: 'Push to Hub' }).click()
  await dialog.getByText('pia/Lost-and-found is there already').waitFor()
  await look(page, 'push-exists')
  items = [{ type: 'done', repo_url: 'https://huggingface.co/pia/Lost-and-found', commit: '0'.repeat(40), files: 8, bytes: 24_000_000 }]
  await dialog.getByRole('button', { name: 'Push into it' }).click()
  await dialog.getByText('Files compared with the Hub: 8', { exact: false }).waitFor()
  await look(page, 'push-done')
  await dialog.getByRole('button', { name: 'Close' }).last().click()
  await page.unroute(upload)
  // What is never answered is on its way.
  await page.route(upload, () => {})
  await page.getByRole('button', { name: 'Push to Hub' }).last().click()
  await dialog.getByLabel('Repository').waitFor()
  await dialog.getByRole('button', { name: 'Push to Hub' }).click()
  await dialog.getByRole('progressbar').waitFor()
  await look(page, 'push-busy')
  await dialog.getByRole('button', { name: 'Cancel the push' }).click()
  await dialog.getByText('The push was cancelled', { exact: false }).waitFor()
  await look(page, 'push-cancelled')
  await page.keyboard.press('Escape')
  await page.unroute(upload)
  await page.unroute(whoami)
})

test('a model: its numbers, sharing it without an account, and every way to talk to it', async () => {
  const server = servers.at(-1)!
  await open(server, 'models', 'Village reader')
  await page.getByText('Lost and found').first().click()
  await page.getByText('Made from').first().waitFor()
  await page.getByRole('button', { name: 'Push to Hub' }).last().click()
  await page.getByRole('dialog').getByText('You are not signed in to the Hub').waitFor()
  await look(page, 'models-push')
  await page.keyboard.press('Escape')
  await page.getByRole('button', { name: 'Train again' }).last().click()
  await page.getByRole('dialog').getByText('Base model and dataset are exactly as they were.').waitFor()
  await look(page, 'models-again')
  await page.keyboard.press('Escape')

  await page.getByRole('link', { name: 'Chat', exact: true }).last().click()
  await page.getByLabel('Text to summarize').fill('Hello, neighbors. Jack here, from Lake Road. On Thursday I lost my silver ticket in the square. I like it very much.')
  await look(page, 'chat-document')
  await page.getByRole('button', { name: 'Summarize' }).click()
  await page.getByText(/tokens\/s/).first().waitFor()
  await look(page, 'chat-summary')

  await page.goto(`${server.url}/#/models`)
  await page.getByText('Village reader').first().click()
  await page.getByText('Made from').first().waitFor()
  await page.getByRole('link', { name: 'Chat', exact: true }).last().click()
  await page.getByLabel('Text to look in').fill("Emma's favorite color is red. Walt loves running and does it every Tuesday. The home of Marta is in Queen Street in Lakewood.")
  await page.getByLabel('Question', { exact: true }).fill('Who likes the color red?')
  await look(page, 'chat-question')
  await page.getByRole('button', { name: 'Find the answer' }).click()
  await page.getByText(/tokens\/s/).first().waitFor()
  await look(page, 'chat-found')
  await page.getByRole('button', { name: 'New chat' }).first().click()
  await page.getByRole('button', { name: 'Village reader' }).first().click()
  await page.getByText('Base models on this computer').first().waitFor()
  await look(page, 'chat-picker')
})

test('long words and other scripts keep the layout', async () => {
  const server = servers.at(-1)!
  const [run] = readdirSync(join(server.home, 'runs')).filter((name) => name.startsWith('train_'))
  for (const language of ['de', 'fr', 'es', 'zh', 'hi']) {
    const kept = (await (await fetch(`${server.url}/api/settings`)).json()) as object
    const answer = await fetch(`${server.url}/api/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...kept, language }),
    })
    expect(answer.status, `the language ${language} is kept`).toBe(200)
    const { title } = JSON.parse(readFileSync(join(import.meta.dirname, `../../src/i18n/${language}/settings.json`), 'utf8')) as { title: string }
    await page.goto('about:blank')
    await open(server, 'settings', title)
    await shoot(page, `${language}-settings`)
    for (const [name, path] of [['start', 'start'], ['tune', 'tune'], ['run', `runs/${run}`], ['runs', 'runs'], ['models', 'models'], ['chat', 'chat']] as const) {
      await page.goto(`${server.url}/#/${path}`)
      await page.locator('main h1').first().waitFor()
      await expect.poll(() => page.locator('main .skel').count(), { message: `${name} is loaded` }).toBe(0)
      await shoot(page, `${language}-${name}`)
    }
  }
})
