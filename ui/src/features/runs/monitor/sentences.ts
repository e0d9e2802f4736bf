// The event log of a run as sentences. Steps are not among them: the charts show those.
import type { EventLine } from '../../../api/generated'
import { bytes, count, deviceName, params, t, type Key } from '../../../i18n'
import { metricName, metricValue, scores } from '../../../state/metrics'
import { loss } from '../numbers'

export type Kind = 'progress' | 'test' | 'checkpoint' | 'warning' | 'error'

export interface Entry {
  seq: number
  time: string
  /** The step it belongs to, where it belongs to one. */
  step: number | null
  kind: Kind
  text: string
}

/** One entry for each event that says something of its own. */
export function sentences(lines: readonly EventLine[]): Entry[] {
  const entries: Entry[] = []
  let best = Infinity
  let training = false
  const tell = (line: EventLine, kind: Kind, text: string, step: number | null = null): void => {
    entries.push({ seq: line.seq, time: line.time, step, kind, text })
  }
  for (const line of lines) {
    switch (line.event) {
      case 'started':
        training = false
        if (line.resumed_from === null) tell(line, 'progress', t('runs.log.started', { version: line.version }))
        else tell(line, 'progress', t('runs.log.resumed', { step: line.resumed_from }))
        break
      case 'phase':
        // Each evaluation has a line of its own, with what it measured.
        if (line.phase === 'evaluating' || (line.phase === 'training' && training)) break
        training = line.phase === 'training'
        tell(line, 'progress', t(`runs.log.${line.phase}` as Key))
        break
      case 'prepared':
        tell(line, 'progress', t('runs.log.prepared', {
          train: line.train_rows,
          test: line.eval_rows,
          tokens: line.tokens_per_epoch,
          steps: line.total_steps,
        }))
        if (line.truncated_rows > 0) {
          tell(line, 'warning', t('runs.log.cut', { n: line.truncated_rows, max: count(line.max_seq_length) }))
        }
        if (line.skipped_rows > 0) tell(line, 'warning', t('runs.log.skipped', { n: line.skipped_rows }))
        break
      case 'loaded':
        tell(line, 'progress', t('runs.log.loaded', {
          architecture: line.architecture,
          parameters: params(line.parameters),
          trained: params(line.trainable_parameters),
          dtype: line.dtype,
          device: deviceName(line.device),
        }))
        break
      case 'memory':
        tell(line, 'progress', t('runs.log.memory', { bytes: bytes(line.peak_bytes) }))
        break
      case 'eval': {
        const measured = line.metrics.eval_loss
        const scored = scores(line.metrics).map((name) => `${metricName(name)} ${metricValue(name, line.metrics[name]!)}`)
        const told = (text: string): string => (scored.length > 0 ? t('runs.log.testScored', { test: text, values: scored.join(', ') }) : text)
        if (measured === undefined) {
          const values = Object.entries(line.metrics).map(([name, value]) => `${name} ${loss(value)}`)
          tell(line, 'test', t('runs.log.testOther', { values: values.join(', ') }), line.step)
          break
        }
        if (line.step === 0) {
          tell(line, 'test', told(t('runs.log.testBase', { loss: loss(measured) })))
          break
        }
        const key = measured < best ? 'runs.log.testBest' : 'runs.log.test'
        best = Math.min(best, measured)
        tell(line, 'test', told(t(key, { loss: loss(measured) })), line.step)
        break
      }
      case 'checkpoint':
        tell(line, 'checkpoint', t('runs.log.checkpoint'), line.step)
        break
      case 'warning':
        tell(line, 'warning', line.message)
        break
      case 'out_of_memory': {
        const { per_device_train_batch_size: rows, gradient_accumulation_steps: times, gradient_checkpointing: twice, on_processor } = line.fallback
        const sentences = [t('runs.log.outOfMemory', { rows: count(rows), times: count(times) })]
        if (twice) sentences.push(t('runs.log.recomputing'))
        if (on_processor) sentences.push(t('runs.log.onProcessor'))
        tell(line, 'warning', sentences.join(' '))
        break
      }
      case 'halted':
        tell(line, 'warning', t('runs.log.halted', { reason: line.reason }), line.step === 0 ? null : line.step)
        break
      case 'stopped':
        tell(line, 'progress', t('runs.log.stopped'), line.step)
        break
      case 'finished':
        if (line.result.success) tell(line, 'progress', t('runs.log.finished'))
        else tell(line, 'error', t('runs.log.failed', { error: line.result.error ?? line.result.message }))
        break
    }
  }
  return entries
}
