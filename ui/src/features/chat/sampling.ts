// How the next token is chosen: ready-made settings, the ranges of the sliders, and a seed where none is fixed.
import type { GenerateParams, Task } from '../../api/generated'

export const PRESETS = {
  precise: { temperature: 0, top_p: 1, top_k: 0, repetition_penalty: 1 },
  balanced: { temperature: 0.7, top_p: 0.9, top_k: 0, repetition_penalty: 1 },
  creative: { temperature: 1.1, top_p: 0.95, top_k: 0, repetition_penalty: 1.05 },
} as const satisfies Record<string, Partial<GenerateParams>>

export type Preset = keyof typeof PRESETS

/** Ends of each slider, inside of what the backend takes. */
export const RANGES = {
  temperature: { min: 0, max: 2, step: 0.05, digits: 2 },
  top_p: { min: 0.05, max: 1, step: 0.05, digits: 2 },
  top_k: { min: 0, max: 200, step: 1, digits: 0 },
  max_new_tokens: { min: 16, max: 4096, step: 16, digits: 0 },
  repetition_penalty: { min: 1, max: 2, step: 0.05, digits: 2 },
} as const

/** A summary and an extracted answer are the likeliest one; a conversation may vary. */
export function usualParams(task: Task | null): GenerateParams {
  const preset = task === null || task === 'text-generation' ? PRESETS.balanced : PRESETS.precise
  return { ...preset, max_new_tokens: 256, seed: 0, stop: [], num_beams: 0, no_answer_threshold: 0 }
}

/** The preset that these settings are. */
export function presetOf(params: GenerateParams): Preset | null {
  const same = (preset: Preset): boolean =>
    Object.entries(PRESETS[preset]).every(([name, value]) => params[name as keyof GenerateParams] === value)
  return (Object.keys(PRESETS) as Preset[]).find(same) ?? null
}

/** Settings as they are sent: seed 0 stands for another one each time. */
export function withSeed(params: GenerateParams, random: () => number = Math.random): GenerateParams {
  if (params.seed !== 0) return params
  return { ...params, seed: 1 + Math.floor(random() * 2_147_483_646) }
}
