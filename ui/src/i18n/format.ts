// Numbers, sizes and times as the chosen language writes them. A number and its unit never part at a line's end.
import { t } from './catalogue.svelte'
import { language } from './language.svelte'

const SPACE = '\u00a0'
const made = new Map<string, Intl.NumberFormat>()

function numbers(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = language.code + JSON.stringify(options)
  let one = made.get(key)
  if (!one) made.set(key, (one = new Intl.NumberFormat(language.code, options)))
  return one
}

/** "1,930" */
export function count(n: number): string {
  return numbers({ maximumFractionDigits: 0 }).format(n)
}

/** "0.99": this many digits behind the point. */
export function decimal(n: number, digits = 2): string {
  return numbers({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(n)
}

/** "62 %" of 0.62 */
export function percent(part: number, digits = 0): string {
  return `${decimal(part * 100, digits)}${SPACE}%`
}

/** "7.4 GB", in powers of 1000 as disks and the Hub count. */
export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  let value = n
  while (Math.abs(value) >= 999.95 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  const digits = unit === 0 || Math.abs(value) >= 99.95 ? 0 : 1
  return `${decimal(value, digits)}${SPACE}${units[unit]}`
}

/** "135M", "8B", "1.5B": how model pages count parameters. */
export function params(n: number): string {
  for (const [size, letter] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'K']] as const) {
    if (n < size * 0.9995) continue
    const value = n / size
    return numbers({ maximumFractionDigits: value < 9.95 ? 1 : 0 }).format(value) + letter
  }
  return count(n)
}

/** "0.4 s", "45 s", "58 min", "1 h 12 min", "2 d 3 h": the two largest units that matter. */
export function duration(seconds: number): string {
  if (seconds > 0 && seconds < 0.95) return unit(seconds < 0.05 ? `< ${decimal(0.1, 1)}` : decimal(seconds, 1), 'second')
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return unit(whole, 'second')
  if (whole < 600) return join(unit(Math.floor(whole / 60), 'minute'), whole % 60 && unit(whole % 60, 'second'))
  const minutes = Math.round(whole / 60)
  if (minutes < 60) return unit(minutes, 'minute')
  if (minutes < 24 * 60) return join(unit(Math.floor(minutes / 60), 'hour'), minutes % 60 && unit(minutes % 60, 'minute'))
  const hours = Math.round(minutes / 60)
  return join(unit(Math.floor(hours / 24), 'day'), hours % 24 && unit(hours % 24, 'hour'))
}

function unit(n: number | string, name: 'second' | 'minute' | 'hour' | 'day'): string {
  return t(`common.unit.${name}`, { n: typeof n === 'string' ? n : count(n) }).replaceAll(' ', SPACE)
}

function join(first: string, second: string | 0): string {
  return second === 0 ? first : `${first} ${second}`
}

/** What computes, as it follows "on": the engine's own name for what is not known here. */
export function deviceName(name: string): string {
  return name === 'cpu' || name === 'cuda' || name === 'metal' ? t(`common.device.${name}`) : name
}

/** "34:59", "1:12:04" */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  const two = (n: number): string => String(n).padStart(2, '0')
  const hours = Math.floor(whole / 3600)
  const minutes = Math.floor(whole / 60) % 60
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`
}

/** "638", "12.4": things a second, as many digits as say something. */
export function rate(n: number): string {
  return decimal(n, n < 9.95 ? 1 : 0)
}

/** "2e-4", "6.6e-5": small settings as machine learning writes them; ordinary numbers as they are. */
export function small(n: number): string {
  if (n === 0 || Math.abs(n) >= 0.001) return numbers({ maximumSignificantDigits: 3 }).format(n)
  return n.toExponential(1).replace('.0e', 'e')
}

/** "today 14:45", "yesterday 9:10", "12 Mar 14:45", "12 Mar 2024" */
export function when(iso: string, now = new Date()): string {
  const at = new Date(iso)
  if (Number.isNaN(at.getTime())) return iso
  const time = new Intl.DateTimeFormat(language.code, { hour: '2-digit', minute: '2-digit', hour12: false }).format(at)
  const days = Math.round((midnight(now) - midnight(at)) / 86_400_000)
  if (days === 0 || days === 1) {
    const day = new Intl.RelativeTimeFormat(language.code, { numeric: 'auto' }).format(-days, 'day')
    return `${day} ${time}`
  }
  const sameYear = at.getFullYear() === now.getFullYear()
  const date = new Intl.DateTimeFormat(language.code, {
    day: 'numeric',
    month: 'short',
    ...(sameYear ? {} : { year: 'numeric' }),
  }).format(at)
  return sameYear ? `${date} ${time}` : date
}

/** "14:45": the time of the day, with seconds where asked. */
export function timeOfDay(iso: string | Date, seconds = false): string {
  const options: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit', hour12: false }
  if (seconds) options.second = '2-digit'
  return new Intl.DateTimeFormat(language.code, options).format(typeof iso === 'string' ? new Date(iso) : iso)
}

function midnight(date: Date): number {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime()
}
