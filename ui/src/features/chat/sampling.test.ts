import { expect, it } from 'vitest'
import { PRESETS, presetOf, RANGES, usualParams, withSeed, type Preset } from './sampling'

it('names the preset that the settings are', () => {
  for (const name of Object.keys(PRESETS) as Preset[]) {
    expect(presetOf({ ...usualParams(null), ...PRESETS[name] })).toBe(name)
  }
  expect(presetOf({ ...usualParams(null), temperature: 0.33 }), 'own settings are no preset').toBeNull()
})

it('begins with the likeliest words where a document is worked on', () => {
  expect(presetOf(usualParams('extractive-question-answering'))).toBe('precise')
  expect(presetOf(usualParams('text-generation'))).toBe('balanced')
})

it('takes another seed each time only where none is fixed', () => {
  const params = usualParams(null)
  expect(withSeed(params, () => 0.5).seed).toBeGreaterThan(0)
  expect(withSeed(params, () => 0).seed, '0 would stand for another one').toBe(1)
  expect(withSeed({ ...params, seed: 7 }).seed).toBe(7)
})

it('has presets inside of the sliders', () => {
  for (const preset of Object.values(PRESETS)) {
    for (const [name, value] of Object.entries(preset)) {
      const { min, max } = RANGES[name as keyof typeof PRESETS.precise]
      expect(value, name).toBeGreaterThanOrEqual(min)
      expect(value, name).toBeLessThanOrEqual(max)
    }
  }
})
