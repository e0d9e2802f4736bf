// Which rows of a long table are drawn: those on screen and some around them, with room kept for the rest.
import type { Row } from './entries'

export const ROW_HEIGHT = 44
export const GROUP_HEIGHT = 34
/** Rows drawn above and below the screen, so that a fast scroll shows no gap. */
const AROUND = 8

export interface Window {
  readonly first: number
  /** Behind the last. */
  readonly end: number
  /** Room above and below the drawn rows, in pixels. */
  readonly above: number
  readonly below: number
}

/** Where each row begins, and where the last ends: one number more than rows. */
export function tops(rows: readonly Row[]): number[] {
  const tops = [0]
  let y = 0
  for (const row of rows) tops.push((y += row.type === 'group' ? GROUP_HEIGHT : ROW_HEIGHT))
  return tops
}

export function windowOf(tops: readonly number[], scrolled: number, height: number): Window {
  const count = tops.length - 1
  const first = Math.max(0, rowAt(tops, scrolled) - AROUND)
  const end = Math.min(count, rowAt(tops, scrolled + height) + 1 + AROUND)
  return { first, end, above: tops[first] ?? 0, below: (tops[count] ?? 0) - (tops[end] ?? 0) }
}

/** The row at a height, by bisection. */
function rowAt(tops: readonly number[], y: number): number {
  let low = 0
  let high = Math.max(0, tops.length - 2)
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((tops[middle] ?? 0) <= y) low = middle
    else high = middle - 1
  }
  return low
}
