import { expect, it } from 'vitest'
import { line } from '../test/platform'
import { sentences } from './sentences'

it('tells what happened, without the steps', () => {
  const told = sentences([
    line({ event: 'started', job_id: 'train_1', pid: 1, version: '0.1.0', resumed_from: null }),
    line({ event: 'phase', phase: 'training' }),
    line({ event: 'step', step: 1 }),
    line({ event: 'phase', phase: 'evaluating' }),
    line({ event: 'eval', step: 100, metrics: { eval_loss: 1.05, perplexity: 2.9 } }),
    line({ event: 'phase', phase: 'training' }),
    line({ event: 'eval', step: 200, metrics: { eval_loss: 1.2 } }),
    line({ event: 'checkpoint', step: 200, path: '/c' }),
    line({ event: 'warning', message: 'row 7 is empty' }),
    line({ event: 'finished', result: { success: false, message: 'Training failed', error: 'out of memory' }, metrics: {} }),
  ])
  expect(told.map((entry) => [entry.kind, entry.step, entry.text])).toEqual([
    ['progress', null, 'Training engine 0.1.0 started'],
    ['progress', null, 'Training begins'],
    ['test', 100, 'Test loss 1.05, best so far'],
    ['test', 200, 'Test loss 1.20'],
    ['checkpoint', 200, 'Checkpoint kept'],
    ['warning', null, 'row 7 is empty'],
    ['error', null, 'Failed: out of memory'],
  ])
})

it('tells the scores of answers beside the loss, and the base model apart', () => {
  const told = sentences([
    line({ event: 'eval', step: 0, metrics: { eval_loss: 0.9, f1: 12.5, exact_match: 0 }, answered_rows: 8 }),
    line({ event: 'eval', step: 10, metrics: { eval_loss: 1.1, f1: 50, exact_match: 25 }, answered_rows: 8 }),
  ])
  expect(told.map((entry) => [entry.step, entry.text.replaceAll('\u00a0', ' ')])).toEqual([
    [null, 'Base model: test loss 0.90; F1 12.5 %, exact match 0.0 %'],
    [10, 'Test loss 1.10, best so far; F1 50.0 %, exact match 25.0 %'],
  ])
})

it('warns of rows that were cut or left out', () => {
  const told = sentences([
    line({ event: 'prepared', train_rows: 1000, eval_rows: 60, truncated_rows: 1, skipped_rows: 12, tokens_per_epoch: 17553, trained_tokens_per_epoch: 1, max_seq_length: 512, total_steps: 90 }),
  ])
  expect(told.map((entry) => entry.text)).toEqual([
    '1,000 rows to train on, 60 to test with, 17,553 tokens an epoch, 90 steps',
    '1 row was cut to 512 tokens',
    '12 rows were left out',
  ])
  expect(told.slice(1).every((entry) => entry.kind === 'warning')).toBe(true)
})
