// The drawing of a chart by uPlot: lines, grid and axes. Words and single points stand above it in HTML. Loaded with the
// first chart.
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { everyEpoch, type Axis, xAxis, yAxis } from './scale'
import type { ChartData, Curve, Label } from './types'

export interface PlotOptions {
  data: ChartData
  /** The whole run, so that empty space is work left. */
  range: [number, number] | null
  log: boolean
  zero: boolean
  /** The ends of the epochs. */
  epochs: readonly number[]
  epochLabel: (epoch: number) => string
  formatX: (value: number) => string
  formatTick: (value: number, step: number) => string
  width: number
  height: number
}

/** Of the y axis, where no number on it is wider. */
const AXIS_WIDTH = 42
const AXIS_GAP = 8
const AXIS_HEIGHT = 24
/** Pixels that a point needs. */
const POINT_ROOM = 12
/** About the width of a digit of the axes, in pixels. */
const DIGIT = 6.5
const COLORS = {
  ghost: '--data-ghost', grid: '--grid', axis: '--line-2', text: '--ink-3', surface: '--surface', limit: '--warn-mark',
  plan: '--line-2', points: '--data-2', 1: '--data-1', 2: '--data-2', 3: '--data-3', 4: '--data-4', 5: '--data-5',
} as const
type Palette = Record<keyof typeof COLORS, string>

interface Line {
  x: ArrayLike<number>
  y: ArrayLike<number>
  options: Partial<uPlot.Series>
}

export class Plot {
  readonly #host: HTMLElement
  readonly #onLabels: (labels: Label[]) => void
  #options: PlotOptions
  #plot: uPlot | null = null
  #shape = ''
  #palette: Palette
  #x: Axis = { min: 0, max: 1, ticks: [] }
  #y: Axis = { min: 0, max: 1, ticks: [] }

  constructor(host: HTMLElement, options: PlotOptions, onLabels: (labels: Label[]) => void) {
    this.#host = host
    this.#options = options
    this.#onLabels = onLabels
    this.#palette = palette(host)
    this.update(options)
  }

  update(options: PlotOptions): void {
    const before = this.#options
    this.#options = options
    this.#measure()
    const lines = this.#lines()
    // The number and kind of the lines are part of the plot; their points are not.
    const shape = `${options.log} ${lines.map((line) => line.options.label).join('|')}`
    if (!this.#plot || shape !== this.#shape) {
      this.#shape = shape
      this.#make(lines)
      return
    }
    if (before.width !== options.width || before.height !== options.height) {
      this.#plot.setSize({ width: options.width, height: options.height })
    }
    this.#plot.batch(() => {
      this.#plot!.setData(facets(lines), false)
      this.#plot!.setScale('x', this.#x)
      this.#plot!.setScale('y', this.#y)
    })
  }

  /** The colours have changed. */
  repaint(): void {
    this.#palette = palette(this.#host)
    this.#plot?.redraw(false)
  }

  destroy(): void {
    this.#plot?.destroy()
    this.#plot = null
  }

  /** The value of the x axis at a place of the plot, in pixels from its left. */
  xAt(left: number): number {
    return this.#plot?.posToVal(left, 'x') ?? 0
  }

  /** The place of a point in the figure. */
  place(x: number, y: number): { left: number; top: number } {
    const plot = this.#plot
    if (!plot) return { left: 0, top: 0 }
    const { left, top } = this.#area(plot)
    return { left: left + plot.valToPos(x, 'x'), top: top + plot.valToPos(y, 'y') }
  }

  /** Where the plot itself lies in the figure. */
  get area(): { left: number; top: number; width: number; height: number } {
    return this.#plot ? this.#area(this.#plot) : { left: 0, top: 0, width: 0, height: 0 }
  }

  #area(plot: uPlot): { left: number; top: number; width: number; height: number } {
    const { left, top, width, height } = plot.bbox
    const ratio = uPlot.pxRatio
    return { left: left / ratio, top: top / ratio, width: width / ratio, height: height / ratio }
  }

  #measure(): void {
    const { data, range, log, zero, width, height } = this.#options
    const [min, max] = range ?? xExtent(data)
    this.#x = xAxis(min, max, Math.floor((width - AXIS_WIDTH) / 90))
    this.#y = yAxis(data, { log, zero, most: height < 130 ? 3 : 5 })
  }

  #lines(): Line[] {
    const { curves, points, plan } = this.#options.data
    const color = (name: keyof Palette) => (): string => this.#palette[name]
    const lines: Line[] = curves.filter((curve) => curve.low && curve.high).map((curve) => hairline(curve, color('ghost')))
    if (plan) {
      lines.push({ ...plan, options: { label: 'plan', stroke: color('plan'), width: 1.6, dash: [3, 4], cap: 'round' } })
    }
    if (points) {
      const filter = (): number[] => this.#dots()
      const dots = { show: true, size: 9, width: 2, stroke: color('points'), fill: color('surface'), filter }
      lines.push({ ...points, options: { label: 'points', stroke: color('points'), width: 1.4, dash: [2, 4], cap: 'round', points: dots } })
    }
    for (const [at, curve] of curves.entries()) {
      const stroke = color(curve.color ?? 1)
      lines.push({ x: curve.x, y: curve.y, options: { label: `curve ${at}`, stroke, width: curve.thin ? 1.6 : 2 } })
    }
    // Test points stand above the training line.
    return points ? [...lines.filter((line) => line.options.label !== 'points'), ...lines.filter((line) => line.options.label === 'points')] : lines
  }

  /** The points that are drawn: all of those there are now, up to as many as there is room for, the last in any case. */
  #dots(): number[] {
    const { data, width } = this.#options
    const n = data.points?.x.length ?? 0
    const every = Math.max(1, Math.ceil((n * POINT_ROOM) / width))
    return Array.from({ length: n }, (_, at) => at).filter((at) => (n - 1 - at) % every === 0)
  }

  #make(lines: Line[]): void {
    this.destroy()
    const { log, width, height } = this.#options
    const font = `11px ${getComputedStyle(this.#host).fontFamily}`
    const text = (): string => this.#palette.text
    const spread: Partial<uPlot.Scale> = log ? { distr: 100, fwd: (value) => Math.log10(Math.max(value, 1e-12)), bwd: (value) => 10 ** value } : {}
    const options: uPlot.Options = {
      mode: 2,
      width,
      height,
      // Half of the last number of the x axis stands right of the plot.
      padding: [8, () => 8 + (this.#options.formatX(this.#x.max).length * DIGIT) / 2, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, auto: false, range: () => [this.#x.min, this.#x.max] },
        y: { ...spread, auto: false, range: () => [this.#y.min, this.#y.max] },
      },
      axes: [
        {
          scale: 'x', side: 2, size: AXIS_HEIGHT, font, stroke: text, gap: 6,
          splits: () => this.#x.ticks,
          values: (_, ticks) => ticks.map((tick) => this.#options.formatX(tick)),
          grid: { show: false }, ticks: { show: false },
          border: { show: true, stroke: () => this.#palette.axis, width: 1 },
        },
        {
          scale: 'y', side: 3, font, stroke: text, gap: AXIS_GAP,
          size: (_, values) => Math.max(AXIS_WIDTH, ...(values ?? []).map((value) => AXIS_GAP + DIGIT * value.length)),
          splits: () => this.#y.ticks,
          values: (_, ticks) => ticks.map((tick) => this.#options.formatTick(tick, step(ticks))),
          grid: { show: true, stroke: () => this.#palette.grid, width: 1 }, ticks: { show: false },
        },
      ],
      series: [
        {},
        ...lines.map((line): uPlot.Series => ({
          facets: [{ scale: 'x', auto: false }, { scale: 'y', auto: false }],
          points: { show: false },
          ...line.options,
        } as uPlot.Series)),
      ],
      hooks: {
        drawAxes: [(plot) => this.#drawMarks(plot)],
        draw: [(plot) => this.#onLabels(this.#labels(plot))],
      },
    }
    this.#plot = new uPlot(options, facets(lines), this.#host)
    this.#plot.batch(() => {
      this.#plot!.setScale('x', this.#x)
      this.#plot!.setScale('y', this.#y)
    })
  }

  #drawMarks(plot: uPlot): void {
    const { ctx } = plot
    const { left, top, width, height } = plot.bbox
    const ratio = uPlot.pxRatio
    const line = (color: string, dash: number[], x1: number, y1: number, x2: number, y2: number): void => {
      ctx.strokeStyle = color
      ctx.setLineDash(dash.map((length) => length * ratio))
      ctx.beginPath()
      ctx.moveTo(x1, y1)
      ctx.lineTo(x2, y2)
      ctx.stroke()
    }
    ctx.save()
    ctx.lineWidth = ratio
    const { epochs } = this.#options
    const every = everyEpoch(epochs.length, width / ratio)
    for (let epoch = every; epoch < epochs.length; epoch += every) {
      const x = Math.round(plot.valToPos(epochs[epoch - 1]!, 'x', true)) + 0.5
      line(this.#palette.axis, [2, 3], x, top, x, top + height)
    }
    const { limit } = this.#options.data
    if (limit) {
      const y = Math.round(plot.valToPos(limit.value, 'y', true)) + 0.5
      line(this.#palette.limit, [4, 3], left, y, left + width, y)
    }
    ctx.restore()
  }

  #labels(plot: uPlot): Label[] {
    const { data, epochs, epochLabel, height } = this.#options
    const area = this.#area(plot)
    const at = (x: number, y: number): { left: number; top: number } => ({
      left: area.left + plot.valToPos(x, 'x'),
      top: area.top + plot.valToPos(y, 'y'),
    })
    const labels: Label[] = []
    if (height >= 130 && epochs.length > 0) {
      let begin = this.#x.min
      const room = everyEpoch(epochs.length, area.width)
      epochs.forEach((end, epoch) => {
        const left = at((begin + end) / 2, 1).left
        if (epoch % room === 0) labels.push({ key: `epoch${epoch}`, kind: 'epoch', left, top: area.top + 13, text: epochLabel(epoch + 1) })
        begin = end
      })
    }
    if (data.limit) labels.push({ key: 'limit', kind: 'limit', left: area.left + area.width, top: at(0, data.limit.value).top, text: data.limit.label })
    const { points } = data
    if (points && points.best !== null && points.best !== undefined && points.best < points.x.length) {
      const place = at(points.x[points.best]!, points.y[points.best]!)
      // A label may not leave the plot at its sides.
      const left = Math.min(Math.max(place.left, area.left + 24), area.left + area.width - 24)
      labels.push({ key: 'best', kind: 'best', ...place })
      if (points.bestLabel) labels.push({ key: 'bestText', kind: 'name', left, top: place.top, text: points.bestLabel, color: 2 })
    }
    for (const [index, curve] of data.curves.entries()) {
      const last = curve.x.length - 1
      if (last < 0 || curve.end === undefined) continue
      const place = at(curve.x[last]!, curve.y[last]!)
      const color = curve.color ?? 1
      const flipped = place.left > area.left + area.width - 12 - curve.end.length * 7
      labels.push({ key: `now${index}`, kind: 'now', ...place, color })
      labels.push({ key: `end${index}`, kind: 'end', ...place, text: curve.end, color, flipped, raised: data.curves.length > 1 })
    }
    return spreadEnds(labels)
  }
}

/** Names at line ends that would cover each other move apart. */
function spreadEnds(labels: Label[]): Label[] {
  const ends = labels.filter((label) => label.kind === 'end').sort((a, b) => a.top - b.top)
  for (const name of labels.filter((label) => label.kind === 'name')) {
    const end = ends.find((end) => Math.abs(end.left - name.left) < 60 && Math.abs(end.top - name.top) < 24)
    if (end) name.top -= 14
  }
  for (let at = 1; at < ends.length; at++) {
    const above = ends[at - 1]!
    if (Math.abs(ends[at]!.left - above.left) < 120 && ends[at]!.top - above.top < 15) ends[at]!.top = above.top + 15
  }
  return labels
}

/** Every step as a thin line; where a point stands for several steps, from its least to its greatest value. */
function hairline(curve: Curve, stroke: () => string): Line {
  const options = { label: 'hairline', stroke, width: 1.2 }
  const { x, low, high } = curve as Required<Curve>
  const n = Math.min(x.length, low.length)
  let exact = true
  for (let at = 0; at < n && exact; at++) exact = low[at] === high[at]
  if (exact) return { x, y: low, options }
  const xs = new Float64Array(n * 2)
  const ys = new Float64Array(n * 2)
  for (let at = 0; at < n; at++) {
    xs[at * 2] = xs[at * 2 + 1] = x[at]!
    // The shorter way from the point before comes first.
    const rising = at === 0 || Math.abs(low[at]! - ys[at * 2 - 1]!) <= Math.abs(high[at]! - ys[at * 2 - 1]!)
    ys[at * 2] = rising ? low[at]! : high[at]!
    ys[at * 2 + 1] = rising ? high[at]! : low[at]!
  }
  return { x: xs, y: ys, options }
}

/** The least distance between two ticks. */
function step(ticks: readonly number[]): number {
  let least = Infinity
  for (let at = 1; at < ticks.length; at++) least = Math.min(least, ticks[at]! - ticks[at - 1]!)
  return least
}

function facets(lines: Line[]): uPlot.AlignedData {
  return [null, ...lines.map((line) => [line.x, line.y])] as unknown as uPlot.AlignedData
}

function xExtent({ curves, points }: ChartData): [number, number] {
  let min = Infinity
  let max = -Infinity
  for (const { x } of [...curves, ...(points ? [points] : [])]) {
    if (x.length === 0) continue
    min = Math.min(min, x[0]!)
    max = Math.max(max, x[x.length - 1]!)
  }
  return min <= max ? [min, max] : [0, 1]
}

function palette(host: HTMLElement): Palette {
  const style = getComputedStyle(host)
  return Object.fromEntries(Object.entries(COLORS).map(([name, token]) => [name, style.getPropertyValue(token).trim() || '#888'])) as Palette
}
