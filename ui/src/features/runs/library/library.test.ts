import { describe, expect, it } from 'vitest'
import type { Run } from '../../../api/generated'
import { Library, MOST_COMPARED } from './library.svelte'

function run(n: number, fields: Partial<Run> = {}): Run {
  return {
    job_id: `train_${n}`,
    model_id: `model_${n}`,
    name: `Run ${n}`,
    base_model: 'modelforge/starter',
    dataset: 'sample:order-slips',
    task: 'text-generation',
    strategy: 'sft',
    created_at: `2026-01-${String(n).padStart(2, '0')}T00:00:00Z`,
    started_at: `2026-01-${String(n).padStart(2, '0')}T00:00:00Z`,
    updated_at: `2026-01-${String(n).padStart(2, '0')}T00:0${n % 10}:00Z`,
    phase: null,
    step: n * 10,
    total_steps: 100,
    epoch: null,
    num_train_epochs: 1,
    loss: null,
    peak_memory_bytes: null,
    metrics: {},
    status: 'completed',
    ...fields,
  } as Run
}

const names = (library: Library) => library.shown.map((one) => one.name)

describe('the list of runs', () => {
  it('shows the newest first', () => {
    expect(names(new Library(() => [run(1), run(3), run(2)]))).toEqual(['Run 3', 'Run 2', 'Run 1'])
  })

  it('finds every word in name, base model, dataset or id', () => {
    const library = new Library(() => [run(1, { name: 'Support v1' }), run(2, { dataset: '/data/support.csv' })])
    library.query = 'SUPPORT'
    expect(names(library)).toEqual(['Run 2', 'Support v1'])
    library.query = 'support starter v1'
    expect(names(library)).toEqual(['Support v1'])
    expect(library.filtered).toBe(true)
    library.showAll()
    expect(library.shown).toHaveLength(2)
  })

  it('filters by status and task at once', () => {
    const library = new Library(() => [
      run(1, { status: 'failed', error: 'x' } as Partial<Run>),
      run(2, { status: 'stopped' } as Partial<Run>),
      run(3, { status: 'stopped', task: 'summarization' } as Partial<Run>),
    ])
    library.status = 'stopped'
    library.task = 'summarization'
    expect(names(library)).toEqual(['Run 3'])
  })

  it('puts runs without a test loss last when the best come first', () => {
    const library = new Library(() => [
      run(1),
      run(2, { metrics: { eval_loss: 1.5 } }),
      run(3, { metrics: { eval_loss: 0.5 } }),
    ])
    library.sortBy('loss')
    expect(names(library)).toEqual(['Run 3', 'Run 2', 'Run 1'])
    library.sortBy('loss')
    expect(library.sort.ascending, 'a second press turns the order round').toBe(false)
  })
})

describe('runs picked to compare', () => {
  it('keep their order and are five at most', () => {
    const library = new Library(() => [1, 2, 3, 4, 5, 6].map((n) => run(n)))
    for (const n of [3, 1, 6, 2, 5, 4]) library.toggle(`train_${n}`)
    expect(library.compared.map((one) => one.job_id)).toEqual(['train_3', 'train_1', 'train_6', 'train_2', 'train_5'])
    expect(library.compared).toHaveLength(MOST_COMPARED)
    library.toggle('train_3')
    expect(library.full).toBe(false)
  })

  it('give their place away when they are deleted', () => {
    let all = [1, 2, 3, 4, 5, 6].map((n) => run(n))
    const library = new Library(() => all)
    for (const n of [1, 2, 3, 4, 5]) library.toggle(`train_${n}`)
    all = all.slice(1)
    const later = new Library(() => all)
    for (const id of library.picked) later.picked.add(id)
    expect(later.compared, 'a deleted run is not compared').toHaveLength(4)
    later.toggle('train_6')
    expect(later.compared.map((one) => one.job_id)).toEqual(['train_2', 'train_3', 'train_4', 'train_5', 'train_6'])
  })
})
