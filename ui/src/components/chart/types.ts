// What a chart shows. All curves share the axes; each has its own points.

export interface Curve {
  label: string
  x: ArrayLike<number>
  y: ArrayLike<number>
  /** Least and greatest value around each point: the pale hairline of every step. */
  low?: ArrayLike<number>
  high?: ArrayLike<number>
  /** A data colour: 1 is ember (tuned, training), 2 steel (base, reference, test). */
  color?: 1 | 2 | 3 | 4 | 5
  thin?: boolean
  /** Written at the last point, such as its value or the curve's name. */
  end?: string
}

/** Single measured values: hollow points joined by dots. */
export interface Points {
  label: string
  x: ArrayLike<number>
  y: ArrayLike<number>
  /** The place of the best one, which is filled and named. */
  best?: number | null
  bestLabel?: string
}

/** What is still to come, dashed. */
export interface Plan {
  x: ArrayLike<number>
  y: ArrayLike<number>
}

export interface Limit {
  value: number
  label: string
}

export interface ChartData {
  curves: readonly Curve[]
  points?: Points | null
  plan?: Plan | null
  limit?: Limit | null
}

/** Something written over the plot, in pixels of it. */
export interface Label {
  key: string
  left: number
  top: number
  text?: string
  kind: 'now' | 'best' | 'end' | 'epoch' | 'limit' | 'name'
  color?: number
  /** Stands left of its point, where there is no room to the right. */
  flipped?: boolean
  /** Stands over its point, where other curves go on beside it. */
  raised?: boolean
}
