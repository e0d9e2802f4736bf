// The histogram of row lengths and the numbers beside it.

export interface Bin {
  from: number
  to: number
  rows: number
}

const BINS = 16

/** Equal bins from 0 to a round number that holds the longest row, each as wide as a power of two times 1, or 1.5. */
export function binsOf(lengths: readonly number[]): Bin[] {
  if (lengths.length === 0) return []
  const width = roundUp(Math.max(...lengths, 1) / BINS)
  const bins = Array.from({ length: BINS }, (_, i): Bin => ({ from: i * width, to: (i + 1) * width, rows: 0 }))
  for (const length of lengths) {
    const bin = bins[Math.min(Math.floor(length / width), BINS - 1)]
    if (bin) bin.rows += 1
  }
  return bins
}

/** The length that this part of the rows does not exceed. */
export function quantile(lengths: readonly number[], part: number): number {
  const sorted = lengths.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? 0
}

function roundUp(width: number): number {
  let power = 1
  while (power < width) power *= 2
  const between = power * 0.75
  return Number.isInteger(between) && between >= width ? between : power
}
