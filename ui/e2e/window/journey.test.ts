// The spine of the journey in the real window: opened, a run with one click, killed and opened again in the middle of it,
// a finished model, a chat.
import { By, Key, until, type WebElement } from 'selenium-webdriver'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openWindow, type Window } from '../window'

const PATIENCE = 240_000

let window: Window

beforeAll(async () => {
  window = await openWindow()
})

afterAll(() => window?.stop())

function find(xpath: string): Promise<WebElement> {
  return window.driver.wait(until.elementLocated(By.xpath(xpath)), PATIENCE) as unknown as Promise<WebElement>
}

const text = (words: string): Promise<WebElement> => find(`//*[contains(normalize-space(text()), ${JSON.stringify(words)})]`)
const button = (words: string): Promise<WebElement> =>
  find(`//*[self::button or self::a][contains(normalize-space(.), ${JSON.stringify(words)})]`)

async function step(): Promise<number> {
  const bars = await window.driver.findElements(By.css('main [role="progressbar"][aria-valuenow]'))
  return bars[0] ? Number(await bars[0].getAttribute('aria-valuenow')) : 0
}

test('the window opens with its pages and says how long that took', async () => {
  await text('Teach a model something new, on this computer')
  console.log(`window usable after ${window.startMs.toFixed(0)} ms, the driver's own start included`)
  await window.shoot('start')
})

test('pages can ask for operations, and for nothing that they may not', async () => {
  const answer = await window.driver.executeAsyncScript<{ version: unknown; refused: unknown; remote: unknown; frozen: boolean }>(`
    const done = arguments[0];
    const { invoke } = window.__TAURI_INTERNALS__;
    (async () => {
      const info = await invoke('app_info', {});
      const refused = await invoke('plugin:fs|read_file', { path: '/etc/passwd' }).catch(String);
      const remote = await fetch('https://example.com').then(() => 'reached', () => 'refused');
      done({ version: info.version, refused, remote, frozen: Object.isFrozen(Object.prototype) });
    })();
  `)
  expect(answer.version, 'an operation answers').toMatch(/^\d+\.\d+\.\d+/)
  expect(answer.refused, 'a plugin that no capability names is refused').toMatch(/not allowed|not found/)
  expect(answer.remote, 'the content security policy lets pages reach nothing outside').toBe('refused')
  expect(answer.frozen, 'the prototypes are frozen').toBe(true)
})

test('a run starts with one click, and is found again by the next start', async () => {
  await (await button('Try it now')).click()
  await window.driver.wait(async () => (await step()) >= 3, PATIENCE, 'the run does steps')
  // Drawn, not told as a table, which is what remains where drawing fails.
  await window.driver.wait(until.elementLocated(By.css('main canvas')), PATIENCE)
  await window.shoot('run')
  await window.restart()
  await window.driver.wait(until.elementLocated(By.css('main h1')), PATIENCE)
  await (await find(`//nav//a[contains(@href, '#/runs')]`)).click()
  await (await text('Order slips')).click()
  await text('Your model is ready')
  await window.shoot('run-done')
})

test('the finished model answers in the chat', async () => {
  await (await find(`//main//a[contains(@href, '#/chat')]`)).click()
  const field = (await window.driver.wait(until.elementLocated(By.css('main textarea')), PATIENCE)) as unknown as WebElement
  await field.sendKeys('Hello! I am Leo, from Bridge Street. I want to order six pink coats for Sunday.', Key.ENTER)
  await text('tokens/s')
  const reply = await window.driver.findElement(By.css('.reply')).getText()
  expect(reply, 'the answer has the form that was taught').toContain('order; name: Leo')
  await window.shoot('chat')
})
