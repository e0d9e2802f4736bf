// What this computer can train, in one line.
import { call } from '../../api/client'
import type { Hardware, PossibleModel } from '../../api/generated'
import { count, t } from '../../i18n'

/** "NVIDIA GeForce RTX 4070, 12 GB", "This computer, 8 processor cores, 32 GB of memory" */
export function machineName(specs: Hardware): string {
  if (specs.gpu_memory_gb > 0) {
    return t('start.machine.gpu', { name: specs.gpu_name, memory: count(specs.gpu_memory_gb) })
  }
  return t('start.machine.cpu', { n: specs.cpu_cores, memory: count(specs.ram_gb) })
}

/** The largest known model that writes answers and fits with room to spare. */
export async function largestModel(signal: AbortSignal): Promise<PossibleModel | null> {
  const { possible } = await call('finetune_catalogue', { task: 'text-generation' }, { signal })
  return largest(possible)
}

export function largest(models: readonly PossibleModel[]): PossibleModel | null {
  const fitting = models.filter((model) => model.fit === 'fits')
  return fitting.reduce<PossibleModel | null>((most, model) => (most && most.parameters >= model.parameters ? most : model), null)
}
