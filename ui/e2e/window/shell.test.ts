// What the window has beyond its pages: one instance, menu keys, the local server, the question on closing, notifications.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { By, until, type WebElement } from 'selenium-webdriver'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openWindow, type Window } from '../window'

const PATIENCE = 240_000

let window: Window

beforeAll(async () => {
  window = await openWindow()
})

afterAll(() => window?.stop())

const find = (xpath: string): Promise<WebElement> =>
  window.driver.wait(until.elementLocated(By.xpath(xpath)), PATIENCE) as unknown as Promise<WebElement>
const text = (words: string): Promise<WebElement> => find(`//*[contains(normalize-space(text()), ${JSON.stringify(words)})]`)
const button = (words: string): Promise<WebElement> =>
  find(`//*[self::button or self::a][contains(normalize-space(.), ${JSON.stringify(words)})]`)

test('a second start gives its dataset to the window that is there', async () => {
  const dataset = join(window.folder, 'lullabies.jsonl')
  writeFileSync(dataset, Array.from({ length: 12 }, (_, i) => `{"prompt": "Line ${i}?", "completion": "Hush, ${i}."}\n`).join(''))
  await window.startAgain(dataset)
  await text('lullabies.jsonl')
  expect(await window.driver.getCurrentUrl(), 'the wizard has it').toContain('#/tune')
  await window.shoot('second-start')
})

test('a dataset is opened by the dialog of the system', async () => {
  const dataset = join(window.folder, 'riddles.jsonl')
  writeFileSync(dataset, Array.from({ length: 12 }, (_, i) => `{"prompt": "Riddle ${i}?", "completion": "It is ${i}."}\n`).join(''))
  await window.press('ctrl+o')
  await window.chooseFile(dataset)
  await text('riddles.jsonl')
})

test('keys of the menu reach the pages', async () => {
  await window.press('ctrl+comma')
  await find('//main//h1[normalize-space()="Settings"]')
})

test('the local server is there for who has its key, and only while it is on', async () => {
  const toggle = await find('//*[@role="switch"][@aria-labelledby="server-name"]')
  await window.driver.executeScript('arguments[0].scrollIntoView()', toggle)
  await toggle.click()
  await (await button('Show key')).click()
  await window.shoot('local-server')
  const value = async (label: string): Promise<string> => (await find(`//*[h3[normalize-space()="${label}"]]/span`)).getText()
  const [address, key] = [await value('Address'), await value('Key')]
  const ask = (headers: HeadersInit): Promise<number> => fetch(`${address}/api/info`, { headers }).then((answer) => answer.status)
  expect(await ask({}), 'without the key it tells nothing').toBe(401)
  expect(await ask({ authorization: `Bearer ${key}` }), 'with the key it answers').toBe(200)
  await toggle.click()
  await text('Off. When on')
  await expect(ask({}), 'nothing listens any more').rejects.toThrow()
})

test('closing during a run asks, and the paused run is there at the next start', async () => {
  await window.press('ctrl+1')
  // The page may still be laid out anew under a click.
  const bar = By.css('main [role="progressbar"][aria-valuenow]')
  await window.driver.wait(async () => {
    const [start] = await window.driver.findElements(By.xpath('//main//button[contains(normalize-space(.), "Try it now")]'))
    await start?.click().catch(() => {})
    return (await window.driver.findElements(bar)).length > 0
  }, PATIENCE, 'the run does steps', 500)
  await window.press('ctrl+q')
  await text('Training is under way')
  await window.shoot('closing')
  await (await button('Pause and quit')).click()
  await window.ended()
  await window.restart()
  await (await find(`//nav//a[contains(@href, '#/runs')]`)).click()
  await (await text('Order slips')).click()
  await text('Paused')
  await window.shoot('paused')
})

test('the end of a run is told to who is not looking', async () => {
  await (await button('Resume')).click()
  await window.lookAway()
  await window.driver.wait(() => window.notifications().includes('is trained'), 120_000, 'a notification went over the bus')
})
