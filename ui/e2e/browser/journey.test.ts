// What people do, from the first minute on, in a real browser on the real server. Every screen it comes to is checked for
// accessibility and kept as pictures.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { launch, look, shoot, SHOTS } from '../browser'
import { serve, type Server } from '../server'

let server: Server
let browser: Browser
let page: Page
const errors: string[] = []

beforeAll(async () => {
  server = await serve()
  browser = await launch()
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB', acceptDownloads: true })
  page = await context.newPage()
  page.setDefaultTimeout(30_000)
  page.on('pageerror', (error) => errors.push(error.message))
  // That the server refused something is told by the page itself.
  page.on('console', (message) => message.type() === 'error' && !/Failed to load resource/.test(message.text()) && errors.push(message.text()))
})

afterAll(async () => {
  await browser?.close()
  await server?.stop()
})

afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return
  await page.screenshot({ path: join(SHOTS, 'failure.png') })
  const details = (await page.locator('details pre').allTextContents()).join('\n')
  console.log(`failed at ${page.url()}; errors of the page: ${errors.join('; ') || 'none'}\n${details}`)
})

const heading = (name: string | RegExp) => page.getByRole('heading', { level: 1, name })
const button = (name: string | RegExp) => page.getByRole('button', { name, exact: typeof name === 'string' })
const link = (name: string | RegExp) => page.getByRole('link', { name, exact: typeof name === 'string' })

/** Waits until what holds is true; the page itself says when it changes. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  await expect.poll(holds, { timeout: 120_000, interval: 100, message: what }).toBe(true)
}

/** Steps done, as the page shows them; 0 before the first. */
async function step(): Promise<number> {
  const bar = page.getByRole('progressbar', { name: 'Training steps' })
  return (await bar.count()) === 0 ? 0 : Number(await bar.first().getAttribute('aria-valuenow'))
}

test('try it now: a run starts with one click and its curve grows', async () => {
  await page.goto(server.url)
  await heading('Teach a model something new, on this computer').waitFor()
  await look(page, 'start-first')
  await button('Try it now').click()
  await page.waitForURL(/#\/runs\/train_/)
  await until('the run does steps', async () => (await step()) >= 5)
  const before = await step()
  await until('the curve grows', async () => (await step()) > before)
  await page.getByRole('img', { name: /^Training loss went from/ }).first().waitFor()
  await shoot(page, 'run-training')
})

test('a reload in the middle of the run finds it again with its whole curve', async () => {
  const before = await step()
  await page.reload()
  await until('it goes on where it is', async () => (await step()) >= before || (await page.getByText('Your model is ready').count()) > 0)
  await page.goto(`${server.url}/#/start`)
  await page.locator('main').getByRole('heading').first().waitFor()
  await shoot(page, 'start-active')
  await page.goBack()
  await page.getByText('Your model is ready').first().waitFor({ timeout: 90_000 })
  await look(page, 'run-done')
})

test('the finished model answers, can be stopped, and stands beside its base', async () => {
  await link('Chat').last().click()
  await page.waitForURL(/#\/chat/)
  const field = page.getByRole('textbox', { name: /^Message|^Ask/ })
  await field.fill('Hello! I am Leo, from Bridge Street. I want to order six pink coats for Sunday.')
  await field.press('Enter')
  await page.getByText(/\d+ tokens?, .* tokens\/s/).first().waitFor()
  await expect(page.locator('.reply').first().textContent(), 'the answer has the form that was taught').resolves.toMatch(/order; name: Leo/)
  await look(page, 'chat')

  await field.fill('Tell me a very long story about a dog, a cat and a bird.')
  await field.press('Enter')
  const stop = button('Stop')
  await Promise.race([stop.waitFor(), page.getByText(/tokens\/s/).nth(1).waitFor()])
  if (await stop.isVisible()) await stop.click({ timeout: 2000 }).catch(() => {})
  await until('it has stopped', async () => (await stop.count()) === 0 || !(await stop.isVisible()))

  await page.reload()
  await page.getByText('I am Leo, from Bridge Street').first().waitFor()

  await page.getByRole('radio', { name: 'Side by side' }).or(button('Side by side')).first().click()
  const both = page.getByRole('textbox', { name: /^Message|^Ask/ })
  await both.fill('Good morning! Emma here, Lake Road. Two red lamps for Friday, please.')
  await both.press('Enter')
  await until('both have answered', async () => (await page.locator('.turn').last().getByText(/tokens\/s/).count()) === 2)
  await look(page, 'chat-compare')
})

test('a wizard run with a dataset of two bad lines', async () => {
  const rows = Array.from({ length: 40 }, (_, i) => JSON.stringify({ input: `What is in box ${i}?`, output: `Box ${i} holds ${i} pears.` }))
  rows.splice(7, 0, '{"input": "no output"}')
  rows.splice(20, 0, '{"input": "broken", "output": ')
  const file = join(server.folder, 'boxes.jsonl')
  writeFileSync(file, rows.join('\n'))

  await page.goto(`${server.url}/#/tune`)
  await page.getByText('What should your model do?').waitFor()
  await look(page, 'wizard-task')
  await page.getByRole('radio', { name: /Write answers/ }).check({ force: true })
  await link('Continue to model').click()
  await page.getByText('This machine').first().waitFor()
  await look(page, 'wizard-model')
  await page.getByRole('radio', { name: /[Ss]tarter/ }).first().check({ force: true })
  await link('Continue to data').click()
  await page.getByText('Drop your examples here').waitFor()
  await look(page, 'wizard-data-empty')

  const chooser = page.waitForEvent('filechooser')
  await button('Choose a file').click()
  await (await chooser).setFiles(file)
  await page.getByText("2 lines can't be used.").waitFor()
  await page.getByText('Line 8').waitFor()
  await page.getByText('Line 21').waitFor()
  await look(page, 'wizard-data-bad')
  await page.getByRole('checkbox', { name: 'Skip these 2' }).check()
  await page.getByText('What the model sees').waitFor()
  await page.locator('.tok.on').first().waitFor()
  await look(page, 'wizard-data')

  await page.reload()
  await page.getByText('What the model sees').waitFor()
  await link('Continue to settings').click()
  await page.getByRole('radio', { name: 'Advanced' }).or(button('Advanced')).first().click()
  await page.getByLabel('Learning rate', { exact: true }).waitFor()
  // Long enough to be paused.
  await page.getByRole('textbox', { name: 'Steps', exact: true }).fill('400')
  await look(page, 'wizard-settings')
  await link('Continue to review').click()
  await page.getByText('What will run').waitFor()
  await until('the plan is worked out', async () => (await button('Start training').isEnabled()))
  await look(page, 'wizard-review')
  await button('Test it').click()
  await page.getByText('Test run done').waitFor({ timeout: 240_000 })
  await shoot(page, 'wizard-review-measured')
  await button('Start training').click()
  await page.waitForURL(/#\/runs\/train_/)
  await until('it trains', async () => (await step()) >= 2)
  await button('Pause').click()
  await page.getByText(/^Paused at step/).first().waitFor()
  await look(page, 'run-paused')
  await button(/^Resume/).first().click()
  await until('it goes on', async () => (await page.getByText(/^Paused at step/).count()) === 0)
  await button(/^Stop/).first().click()
  await page.getByRole('menuitem', { name: /Stop and discard/ }).click()
  await button('Discard run').click()
  await page.waitForURL(/#\/runs$/)
})

test('runs are listed; models are looked at, exported and deleted', async () => {
  await page.goto(`${server.url}/#/runs`)
  await page.getByText('Order slips').first().waitFor()
  await look(page, 'runs')
  await page.goto(`${server.url}/#/models`)
  await page.getByText('Order slips').first().waitFor()
  await page.getByText('Made from').first().waitFor()
  await look(page, 'models')
  await button(/Export/).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('Which program do you want to use it in?').waitFor()
  await look(page, 'models-export')
  await dialog.getByRole('button', { name: 'Export', exact: true }).click()
  await page.getByText(/^Exported/).first().waitFor({ timeout: 240_000 })
  await shoot(page, 'models-exported')
  await page.keyboard.press('Escape')
  await button(/^Delete/).first().click()
  await page.getByRole('alertdialog').waitFor()
  await look(page, 'models-delete')
  await page.getByRole('alertdialog').getByRole('button', { name: /^Delete/ }).click()
  await page.getByText(/is deleted/).first().waitFor()
})

test('settings: appearance and language take effect at once', async () => {
  await page.goto(`${server.url}/#/settings`)
  await heading('Settings').waitFor()
  await look(page, 'settings')
  await page.getByRole('radio', { name: 'Dark' }).or(button('Dark')).first().click()
  await until('the page is dark', async () => (await page.locator('html').getAttribute('data-theme')) === 'dark')
  for (const [language, title] of [
    ['Deutsch', 'Einstellungen'],
    ['English', 'Settings'],
  ] as const) {
    const select = page.locator('main select').filter({ has: page.locator('option', { hasText: language }) }).first()
    await select.selectOption({ label: language })
    await heading(title).waitFor()
    await shoot(page, `settings-${language}`)
  }
})

test('nothing went wrong on the way', () => {
  expect(errors, 'no error of a script and none on the console').toEqual([])
})
