import { expect, it } from 'vitest'
import { isRepoName, repoName } from './repository'

it.each([
  ['Northlight support v3', 'Northlight-support-v3'],
  ['Übung — für München!', 'Ubung-fur-Munchen'],
  ['..a--b..', 'a-b'],
  ['支持', 'model'],
  ['x'.repeat(200), 'x'.repeat(96)],
])('makes of %j a name that the Hub takes', (title, name) => {
  expect(repoName(title)).toBe(name)
  expect(isRepoName(name)).toBe(true)
})

it.each(['', 'a b', 'a--b', 'a..b', '-a', 'a-', 'a.git', 'x'.repeat(97)])('refuses %j', (name) => {
  expect(isRepoName(name)).toBe(false)
})
