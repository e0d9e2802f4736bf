import { expect, test } from 'vitest'
import { cardOf } from './card'

const gpu = (uuid: string, pids: number[] | null, computes = false) => ({
  index: 0, uuid, name: uuid, load_percent: null, memory_used_bytes: null, memory_total_bytes: null, temperature_celsius: null,
  power_watts: null, power_limit_watts: null, pids, computes,
})

test('a run is shown on the card of its process, else on the one that runs are computed on', () => {
  const gpus = [gpu('a', [1, 2]), gpu('b', [3]), gpu('c', null, true)]
  expect(cardOf(gpus, 3)?.uuid).toBe('b')
  expect(cardOf(gpus, 4)?.uuid, 'processes of another namespace').toBe('c')
  expect(cardOf(gpus, null)?.uuid).toBe('c')
  expect(cardOf(gpus.slice(0, 2), 4)?.uuid).toBe('a')
  expect(cardOf([], 1)).toBeNull()
})
