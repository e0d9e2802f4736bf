// Chromium, screenshots and the accessibility check.
import { existsSync, mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chromium, type Browser, type Page } from 'playwright-core'
import { expect } from 'vitest'

/** Where screenshots are kept, to be looked at. */
export const SHOTS = process.env.MODELFORGE_SHOTS ?? join(import.meta.dirname, 'shots')

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

export function launch(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? PLACES.find(existsSync)
  if (!executablePath) throw new Error('there is no Chromium; CHROMIUM can name one')
  return chromium.launch({ executablePath, args: ['--no-sandbox'] })
}

/** Every combination that people meet. */
export const LOOKS = [
  { theme: 'light', width: 1280, height: 800 },
  { theme: 'dark', width: 1280, height: 800 },
  { theme: 'light', width: 960, height: 640 },
  { theme: 'dark', width: 960, height: 640 },
] as const

/** Takes the page as it is now in every look. */
export async function shoot(page: Page, name: string): Promise<void> {
  mkdirSync(SHOTS, { recursive: true })
  for (const { theme, width, height } of LOOKS) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' })
    await page.setViewportSize({ width, height })
    // Charts follow the size and the theme in the next frame.
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(null)))))
    await page.screenshot({ path: join(SHOTS, `${name}-${theme}-${width}.png`), animations: 'disabled' })
    await fits(page, `${name}, ${theme}, ${width}`)
  }
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'no-preference' })
  await page.setViewportSize({ width: 1280, height: 800 })
}

/** Checks the page as it is now, and keeps pictures of it. */
export async function look(page: Page, name: string): Promise<void> {
  await accessible(page, name)
  await shoot(page, name)
}

/** Nothing sticks out of the window to the side. */
async function fits(page: Page, where: string): Promise<void> {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth)
  expect(wide, `${where}: the page is no wider than the window`).toBe(false)
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

interface Violation {
  id: string
  impact: string
  nodes: { target: string[]; failureSummary: string }[]
}

/** No serious or critical violation of accessibility rules, colour contrast among them. */
export async function accessible(page: Page, where: string): Promise<void> {
  await page.evaluate(axe)
  for (const theme of ['light', 'dark'] as const) {
    // Colours are judged when they have arrived.
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' })
    const violations = await page.evaluate(async (): Promise<Violation[]> => {
      const result = await (window as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } }).axe.run()
      return result.violations
    })
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
    const told = serious.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary}`))
    expect(told, `${where}, ${theme}: no serious violation`).toEqual([])
  }
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'no-preference' })
}
