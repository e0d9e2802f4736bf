import { afterEach, expect, it } from 'vitest'
import { settleSystemLanguage } from './system-language'

const real = navigator.language

afterEach(() => void Object.defineProperty(navigator, 'language', { value: real, configurable: true }))

it.each([
  ['C', 'en'],
  ['de-AT', 'de-AT'],
])('a system language of %s is told as %s', (told, settled) => {
  Object.defineProperty(navigator, 'language', { value: told, configurable: true })
  settleSystemLanguage()
  expect(navigator.language, 'Intl takes it').toBe(settled)
  expect(() => new Intl.NumberFormat(navigator.language)).not.toThrow()
})
