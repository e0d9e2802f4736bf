// Losses and names as both run screens write them.
import { decimal, small } from '../../i18n'

/** Two digits where they say enough, more for small losses: "1.05", "0.0022". */
export function loss(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (value === 0 || Math.abs(value) >= 0.1) return decimal(value, 2)
  return Math.abs(value) >= 0.001 ? decimal(value, Math.abs(value) >= 0.01 ? 3 : 4) : small(value)
}

/** The last part of a model's or dataset's name: "SmolLM2-135M" of "HuggingFaceTB/SmolLM2-135M". */
export function shortName(name: string): string {
  const parts = name.split(/[/\\:]/).filter(Boolean)
  return parts.at(-1) ?? name
}
