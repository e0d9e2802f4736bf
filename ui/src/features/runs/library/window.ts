// Which rows of a long list are drawn: those in sight and some around them.

export interface Rows {
  first: number
  /** One behind the last. */
  end: number
}

/** `top` is how far the list's own beginning is scrolled out of sight, in the unit of `height` and `rowHeight`. */
export function rowsInSight(count: number, rowHeight: number, top: number, height: number, around = 8): Rows {
  const first = Math.max(0, Math.min(count, Math.floor(top / rowHeight)) - around)
  const end = Math.min(count, Math.max(0, Math.ceil((top + height) / rowHeight)) + around)
  return { first: Math.min(first, end), end }
}
