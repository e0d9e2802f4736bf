// The smoothed line of a chart: an exponential moving average, freed of its bias towards the start (Adam's correction).

/**
 * Smooths `values` measured at `steps`, which may be spaced unevenly: a gap counts as many times as it is wide, so that
 * a thinned-out curve looks like the whole one. `weight` is how much of the average stays from step to step, 0 to 1.
 */
export function smooth(steps: ArrayLike<number>, values: ArrayLike<number>, weight: number): number[] {
  const smoothed: number[] = new Array(values.length)
  let sum = 0
  let mass = 0
  for (let i = 0; i < values.length; i += 1) {
    const gap = i === 0 ? 1 : Math.max(1, steps[i]! - steps[i - 1]!)
    const kept = weight ** gap
    sum = sum * kept + values[i]! * (1 - kept)
    mass = mass * kept + (1 - kept)
    smoothed[i] = mass > 0 ? sum / mass : values[i]!
  }
  return smoothed
}
