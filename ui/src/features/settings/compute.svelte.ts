// The NVIDIA cards of this computer, and which of them runs are computed on.
import { AppError, call } from '../../api/client'
import type { Card, HardwareCards } from '../../api/generated'
import { bytes, t } from '../../i18n'
import { hardware } from '../../state'
import { Preferences } from './preferences.svelte'

export const AUTO = 'auto'
export const PROCESSOR = 'cpu'

export class Compute {
  value = $state.raw<HardwareCards | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)
  readonly preferences = new Preferences()

  refresh = async (): Promise<void> => {
    try {
      this.value = await call('hardware_cards', {})
      this.error = null
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.loading = false
  }

  async choose(compute_on: string): Promise<void> {
    if (!(await this.preferences.set({ compute_on }))) return
    // What fits and what is recommended depends on it.
    await Promise.all([this.refresh(), hardware.refresh()])
  }
}

/** What can be chosen; a card that was chosen and is not here is offered too, so that the list tells what is set. */
export function choices(cards: readonly Card[], now: string): { value: string; label: string; disabled?: boolean }[] {
  const listed = [
    { value: AUTO, label: t('settings.compute.auto') },
    ...cards.map((card) => ({ value: card.uuid, label: cardName(card, cards), disabled: card.problem !== null })),
    { value: PROCESSOR, label: t('settings.compute.processor') },
  ]
  if (!listed.some(({ value }) => value === now)) listed.push({ value: now, label: t('settings.compute.gone') })
  return listed
}

/** Cards of one name are told apart by their number. */
export function cardName(card: Card, cards: readonly Card[]): string {
  const alike = cards.filter(({ name }) => name === card.name).length > 1
  return alike && card.index !== null ? t('settings.compute.numbered', { name: card.name, n: card.index }) : card.name
}

/** "Compute capability 8.9", "in use by: python (2.1 GB)". */
export function cardLines(card: Card): string[] {
  const lines: string[] = []
  if (card.compute_capability !== null) lines.push(t('settings.compute.capability', { version: card.compute_capability }))
  const programs = (card.processes ?? []).map(({ pid, name, memory_bytes }) => {
    const who = name ?? t('settings.compute.process', { pid: String(pid) })
    return memory_bytes === null ? who : t('settings.compute.program', { name: who, size: bytes(memory_bytes) })
  })
  if (programs.length > 0) lines.push(t('settings.compute.used', { programs: programs.join(', ') }))
  return lines
}
