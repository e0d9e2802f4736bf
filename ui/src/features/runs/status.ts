// How each way a run can stand is shown.
import type { Run } from '../../api/generated'
import type { IconName } from '../../components/icons'

export const STATUS_LOOK: Record<Run['status'], { kind?: 'ok' | 'warn' | 'bad' | 'info' | 'accent'; icon?: IconName }> = {
  running: { kind: 'accent' },
  queued: { icon: 'clock' },
  stopped: { kind: 'info', icon: 'pause' },
  interrupted: { kind: 'warn', icon: 'warn' },
  completed: { kind: 'ok', icon: 'check' },
  failed: { kind: 'bad', icon: 'close' },
}
