// Spans between two moments as the engine writes them (RFC 3339).

/** Seconds from one moment to another; never negative, so that a clock put back shows no nonsense. */
export function seconds(from: string, to: string | number): number {
  const end = typeof to === 'number' ? to : Date.parse(to)
  return Math.max(0, (end - Date.parse(from)) / 1000)
}
