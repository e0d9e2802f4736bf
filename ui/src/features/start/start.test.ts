import { afterEach, describe, expect, test, vi } from 'vitest'
import type { PossibleModel, PreviewRow, Run } from '../../api/generated'
import { AppError } from '../../api/client'
import { platform } from '../../platform'
import { area, sparkline } from './area'
import { largest } from './machine'
import { Proof, exampleOf } from './proof.svelte'
import { canResume, curve, datasetName, loss, outcome, recentRuns, secondsLeft } from './recent'
import { TRIAL, TryIt } from './try-it.svelte'

afterEach(() => vi.restoreAllMocks())

function run(patch: Partial<Run>): Run {
  return {
    job_id: 'train_1', model_id: 'model_1', name: 'One', base_model: 'modelforge/starter', dataset: 'sample:order-slips',
    task: 'text-generation', strategy: 'sft', created_at: '2026-01-01T00:00:00Z', status: 'completed', phase: null,
    step: 100, total_steps: 100, epoch: 1, num_train_epochs: 1, loss: 0.5, peak_memory_bytes: null, metrics: {},
    started_at: null, updated_at: null, ...patch,
  } as Run
}

const ROW: PreviewRow = {
  row: 1,
  text: '',
  cut_tokens: 0,
  tokens: [
    ['<|im_start|>', false, true], ['user', false, false], ['\n', false, false], ['Two', false, false],
    [' lamps', false, false], ['<|im_end|>', false, true], ['\n', false, false], ['<|im_start|>', false, true],
    ['assistant', false, false], ['\n', false, false], ['order;', true, false], [' lamps', true, false],
    ['<|im_end|>', true, true],
  ].map(([text, trained, special], id) => ({ id, text, trained, special }) as PreviewRow['tokens'][number]),
}

/** Answers operations as the backend does; what is not named fails. */
function backend(answers: Record<string, unknown>, pieces: unknown[] = []): string[] {
  const asked: string[] = []
  vi.spyOn(platform, 'call').mockImplementation((op) => {
    asked.push(op)
    if (!(op in answers)) return Promise.reject(new AppError(500, `no ${op}`))
    return Promise.resolve(answers[op] as never)
  })
  vi.spyOn(platform, 'stream').mockImplementation((op, _input, onItem) => {
    asked.push(op)
    for (const piece of pieces) onItem(piece as never, null)
    return Promise.resolve()
  })
  return asked
}

const SAMPLES = [{ dataset: 'sample:order-slips', title: '', task: 'text-generation', path: '/t', heldout_path: '/h' }]
const PIECES = [{ type: 'text', text: ' Thank' }, { type: 'text', text: ' you' }, { type: 'done', text: ' Thank you.', stats: {} }]

describe('try it now', () => {
  test('starts the starter model on the sample and gives the run to go to', async () => {
    const call = vi.spyOn(platform, 'call').mockResolvedValue({ success: true, message: '', job_id: 'train_9' } as never)
    expect(await new TryIt().start('Order slips')).toBe('train_9')
    expect(call.mock.calls[0]?.slice(0, 2)).toEqual(['finetune_start_training', { ...TRIAL, name: 'Order slips' }])
  })

  test('says why it did not start, and can be tried again', async () => {
    backend({})
    const trial = new TryIt()
    expect(await trial.start('x')).toBeNull()
    expect(trial.error?.message).toBe('no finetune_start_training')
    expect(trial.busy, 'the button must be usable again').toBe(false)
  })
})

describe('the proof', () => {
  test('reads message and answer from the tokens of a row', () => {
    expect(exampleOf(ROW)).toEqual({ message: 'Two lamps', goal: 'order; lamps' })
    expect(exampleOf({ ...ROW, tokens: [] }), 'without both there is nothing to show').toBeNull()
  })

  test('shows the answer that the starter model gives, and frees its memory', async () => {
    const asked = backend(
      {
        datasets_samples: SAMPLES,
        datasets_preview: { task: 'text-generation', rows: [ROW] },
        playground_status: { model_id: null, model: null, answering: false },
        playground_unload: {},
        finetune_estimate: { time: { seconds: 38 }, workload: { steps: 100 } },
      },
      PIECES,
    )
    const proof = new Proof()
    await proof.load(new AbortController().signal)
    expect(proof.before).toBe('Thank you.')
    expect([proof.seconds, proof.steps]).toEqual([38, 100])
    expect(asked, 'what was not in memory before does not stay there').toContain('playground_unload')
  })

  test('leaves a chat with another model alone', async () => {
    const asked = backend({
      datasets_samples: SAMPLES,
      datasets_preview: { task: 'text-generation', rows: [ROW] },
      playground_status: { model_id: 'model_1', model: null, answering: false },
      finetune_estimate: { time: null, workload: null },
    })
    const proof = new Proof()
    await proof.load(new AbortController().signal)
    expect(asked).not.toContain('playground_stream')
    expect(proof.before, 'an answer that was not given is not shown').toBeNull()
    expect(proof.example?.goal).toBe('order; lamps')
  })
})

describe('recent runs', () => {
  test('are over, and few', () => {
    const list = ['running', 'completed', 'stopped', 'completed', 'completed'].map((status, i) =>
      run({ job_id: `train_${i}`, status } as Partial<Run>),
    )
    expect(recentRuns(list).map(({ job_id }) => job_id)).toEqual(['train_1', 'train_2', 'train_3'])
  })

  test('say what was measured last', () => {
    expect(outcome(run({ metrics: { eval_loss: 1.18, perplexity: 3.254 } })).text).toBe('Test loss 1.18, perplexity 3.25')
    expect(outcome(run({ metrics: { final_loss: 0.0022 } })).text).toBe('Last loss 0.0022')
    expect(outcome(run({ status: 'failed', error: 'out of memory' } as Partial<Run>))).toEqual({
      kind: 'bad', text: 'Failed', why: 'out of memory',
    })
    expect(outcome(run({ status: 'stopped', step: 75, total_steps: 600 } as Partial<Run>)).text).toBe('Paused at step 75 of 600')
    expect(outcome(run({ status: 'interrupted', step: 0 } as Partial<Run>)).text).toBe('Interrupted before the first step')
  })

  test('go on only where they stopped on the way', () => {
    const states = ['running', 'stopped', 'interrupted', 'completed', 'failed'] as const
    expect(states.filter((status) => canResume(run({ status } as Partial<Run>)))).toEqual(['stopped', 'interrupted'])
  })

  test('a curve of any length has a bounded number of points, each the mean of as many', () => {
    expect(curve([3, null, 1.5, 1]), 'what was not measured is left out').toEqual([3, 1.5, 1])
    expect(curve(Array.from({ length: 96 }, (_, i) => i), 48).slice(0, 2)).toEqual([0.5, 2.5])
    expect(curve(Array.from({ length: 1000 }, () => 1), 48)).toHaveLength(48)
  })
})

test('a loss shows the digits that say something', () => {
  expect([2.358, 0.99, 0.0024, 0.00009].map(loss)).toEqual(['2.36', '0.99', '0.0024', '0.000090'])
  expect(loss(NaN), 'a diverged run is not a number').toBe('–')
})

test('the time left follows the pace so far', () => {
  expect(secondsLeft({ step: 25, total_steps: 100, elapsed_ms: 10_000 })).toBe(30)
  expect(secondsLeft(null)).toBeNull()
})

test('a dataset is called by the end of its name', () => {
  expect(['sample:order-slips', '/data/me/tickets.jsonl', 'C:\\data\\a.csv'].map(datasetName)).toEqual([
    'order-slips', 'tickets.jsonl', 'a.csv',
  ])
})

test('the largest model is one that fits with room to spare', () => {
  const model = (name: string, parameters: number, fit: string): PossibleModel => ({ name, parameters, fit }) as PossibleModel
  expect(largest([model('a', 1, 'fits'), model('b', 3, 'fits'), model('c', 8, 'tight')])?.name).toBe('b')
  expect(largest([])).toBeNull()
})

describe('the small curve', () => {
  test('spans the whole run, so that empty space is work left', () => {
    const drawn = area(Float64Array.of(1, 25, 50), Float64Array.of(2, 1, 0.5), 100)
    expect(drawn?.x).toBe(500)
    expect([drawn?.first, drawn?.last]).toEqual([2, 0.5])
    expect(drawn!.ticks.length, 'at most five gridlines').toBeLessThanOrEqual(5)
  })

  test('leaves out what is no number and needs two points', () => {
    expect(area(Float64Array.of(1), Float64Array.of(2), 10)).toBeNull()
    expect(area(Float64Array.of(1, 2, 3), Float64Array.of(2, NaN, 1), 10)?.points).not.toContain('NaN')
  })

  test('stays small however long the run is', () => {
    const steps = Float64Array.from({ length: 4096 }, (_, i) => i + 1)
    const { points } = area(steps, steps, 4096)!
    expect(points.split(' ').length).toBeLessThanOrEqual(301)
    expect(points.split(' ').at(-1), 'the last value is always drawn').toMatch(/^1000,/)
  })

  test('a flat curve is drawn, not divided by zero', () => {
    expect(sparkline([1, 1, 1], 92, 26)).not.toContain('NaN')
  })
})
