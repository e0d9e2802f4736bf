// Which card a run is on.
import type { Load } from '../../../state/hardware.svelte'

type Gpu = Load['gpus'][number]

/** The card that the engine's process computes on; where the system does not tell processes, the one that runs are computed on now, or the first. */
export function cardOf(gpus: readonly Gpu[], pid: number | null): Gpu | null {
  const own = pid === null ? undefined : gpus.find(({ pids }) => pids?.includes(pid))
  return own ?? gpus.find(({ computes }) => computes) ?? gpus[0] ?? null
}
