import { expect, it } from 'vitest'
import { rowsInSight } from './window'

it.each([
  { at: 'the top', top: 0, want: { first: 0, end: 18 } },
  { at: 'the middle', top: 22_000, want: { first: 492, end: 518 } },
  { at: 'the end', top: 43_560, want: { first: 982, end: 1000 } },
  { at: 'beyond the end', top: 90_000, want: { first: 992, end: 1000 } },
  { at: 'above the list', top: -300, want: { first: 0, end: 12 } },
])('of 1,000 rows few are drawn at $at', ({ top, want }) => {
  expect(rowsInSight(1000, 44, top, 440)).toEqual(want)
})

it('of no rows none is drawn', () => {
  expect(rowsInSight(0, 44, 0, 440)).toEqual({ first: 0, end: 0 })
})
