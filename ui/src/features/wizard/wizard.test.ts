import { beforeEach, describe, expect, it, vi } from 'vitest'
import { AppError } from '../../api/client'
import { STEPS, readDraft } from './draft'
import { backend, field, inputs, memory, normal, possible, reset, type Answer } from './fake-backend'
import { settings } from '../../state'
import { WizardController } from './wizard.svelte'

vi.mock('../../platform', () => import('./fake-backend'))

const settle = () => vi.advanceTimersByTimeAsync(1000)

/** What a test run of two steps measured. */
const measured = () => ({ steps: [], peak_memory_bytes: 900, load_ms: 1, prepare_ms: 1, total_steps: 1, device: 'cpu', estimated_total_seconds: 5 })

async function complete(storage = localStorage): Promise<WizardController> {
  const wizard = new WizardController(storage)
  await wizard.open()
  wizard.chooseTask('text-generation')
  await settle()
  await wizard.chooseDataset('/rows.jsonl')
  await settle()
  return wizard
}

beforeEach(() => {
  settings.value = null
  vi.useFakeTimers()
  localStorage.clear()
  reset()
})

describe('the steps', () => {
  it('say what each lacks, and open one after the other', async () => {
    const wizard = new WizardController()
    await wizard.open()
    expect(wizard.lack('task')?.reason, 'a task is chosen by the person').toBe('task')
    expect(wizard.blocker('review'), 'what lacks first is shown first').toBe('task')
    expect(wizard.lack('review')?.reason, 'the last step waits for the others').toBe('earlier')
    wizard.chooseTask('text-generation')
    await settle()
    expect(wizard.draft.model?.name, 'the recommended model is chosen for those who do not care').toBe('big')
    expect(wizard.lack('model')).toBeNull()
    expect(wizard.lack('data')?.reason).toBe('data')
    await wizard.chooseDataset('/rows.jsonl')
    await settle()
    expect(STEPS.map((step) => wizard.lack(step)), 'a complete draft lacks nothing').toEqual([null, null, null, null, null])
  })

  it('stop at bad lines until they are skipped', async () => {
    const wizard = await complete()
    backend.answers.datasets_check = (input) => ({ ...(normal.datasets_check?.(input) as object), usable_rows: 9, error_count: 2 })
    await wizard.chooseDataset('/bad.jsonl')
    expect(wizard.lack('data')).toEqual({ kind: 'missing', reason: 'dataBadLines', n: 2 })
    wizard.set('skip_bad_rows', true)
    expect(wizard.lack('data')).toBeNull()
    await wizard.chooseDataset('/other.jsonl')
    expect(wizard.lack('data')?.reason, 'skipping was said for one file only').toBe('dataBadLines')
  })

  it('offer the task that the rows fit', async () => {
    const wizard = await complete()
    backend.answers.datasets_check = ({ task }) => {
      if (task !== null) throw new AppError(400, 'the rows do not go with this task')
      return { task: 'summarization' }
    }
    await wizard.chooseDataset('/summaries.jsonl')
    expect(wizard.lack('data')?.reason).toBe('dataBroken')
    expect(wizard.data.fits).toBe('summarization')
    backend.answers.datasets_check = normal.datasets_check as Answer
    wizard.chooseTask('summarization')
    await settle()
    expect(wizard.lack('data'), 'the file is read again for the new task').toBeNull()
  })

  it('ask for access before anybody finds out on the last page', async () => {
    backend.answers.finetune_catalogue = () => ({ recommended: 'gated/one', possible: [possible('gated/one', 9, { cached: false })] })
    backend.answers.finetune_validate_model = () => {
      throw new AppError(403, 'it is gated')
    }
    const wizard = new WizardController()
    await wizard.open()
    wizard.chooseTask('text-generation')
    await settle()
    expect(wizard.lack('model')?.reason).toBe('modelRefused')
    backend.answers.finetune_validate_model = normal.finetune_validate_model as Answer
    await wizard.model.checkChosen()
    expect(wizard.lack('model'), 'checking again takes the new answer').toBeNull()
  })
})

describe('the draft', () => {
  it('survives a reload with its step', async () => {
    const wizard = await complete()
    wizard.set('num_train_epochs', 7)
    wizard.enter('settings')
    const again = new WizardController()
    expect(again.draft, 'nothing that was entered is lost').toEqual(wizard.draft)
    await again.open()
    await settle()
    expect(again.lack('review'), 'what was checked before is checked again').toBeNull()
  })

  it('drops what is no draft', () => {
    for (const kept of ['', '[1]', '{"step":"nowhere","task":7,"model":{"name":""},"values":[]}']) {
      localStorage.setItem('modelforge.wizard', kept)
      const draft = readDraft(localStorage)
      expect([draft.step, draft.task, draft.model, draft.values], 'a damaged draft is an empty one').toEqual(['task', null, null, {}])
    }
  })

  it('takes up the settings of a finished model', async () => {
    const config = { task: 'summarization', model_name: 'small', dataset: '/rows.jsonl', name: 'Old', num_train_epochs: 9, use_4bit: null, max_seq_length: null }
    sessionStorage.setItem('modelforge.again', JSON.stringify(config))
    const wizard = new WizardController()
    await wizard.open()
    await settle()
    expect(wizard.request).toMatchObject({ task: 'summarization', model_name: 'small', dataset: '/rows.jsonl', num_train_epochs: 9 })
    expect(wizard.draft.values, 'only what differs is a choice').toEqual({ num_train_epochs: 9 })
    expect(sessionStorage.length, 'it is taken up once').toBe(0)
  })

  it('takes a file that was opened, and keeps what was chosen beside it', async () => {
    await complete()
    sessionStorage.setItem('modelforge.again', JSON.stringify({ dataset: '/other.jsonl' }))
    const wizard = new WizardController()
    const { task, model } = wizard.draft
    await wizard.open()
    await settle()
    expect(wizard.draft).toMatchObject({ task, model, dataset: '/other.jsonl' })
    expect(wizard.data.report, 'the file is read').not.toBeNull()
  })

  it('is empty after starting over', async () => {
    const wizard = await complete()
    wizard.startOver()
    expect(readDraft(localStorage).task).toBeNull()
    expect(wizard.lack('task')?.reason).toBe('task')
    expect(wizard.data.report).toBeNull()
  })
})

describe('the settings', () => {
  it('start from what this version carries out', async () => {
    const wizard = await complete()
    expect(wizard.settings.refusal('strategy', 'qlora'), 'the reason is the backend\'s own').toBe('not yet')
    expect(wizard.request, 'a suggestion that would be refused is left out').not.toHaveProperty('use_4bit')
    expect(wizard.request?.num_train_epochs, 'the others hold').toBe(3)
    expect(wizard.request, 'the length is found from the rows').not.toHaveProperty('max_seq_length')
    expect(wizard.lengthLimit, 'the smaller of the machine\'s and the model\'s limit').toBe(256)
  })

  it('tell what differs from its default', async () => {
    const wizard = await complete()
    wizard.set('num_train_epochs', 5)
    expect(wizard.settings.changes).toEqual(['num_train_epochs'])
    wizard.set('num_train_epochs', 3)
    expect(wizard.settings.changes, 'the suggested value is the default').toEqual([])
    wizard.set('learning_rate', 0)
    expect(wizard.settings.problem('learning_rate'), 'the lower end does not belong to the range').toEqual({ kind: 'above', limit: 0 })
    expect(wizard.lack('settings')?.reason).toBe('settings')
    wizard.resetSettings()
    expect(wizard.lack('settings')).toBeNull()
  })

  it('show what the backend refuses at the field', async () => {
    const wizard = await complete()
    backend.answers.finetune_estimate = () => {
      throw field('learning_rate', 'too bold')
    }
    wizard.set('learning_rate', 0.9)
    await settle()
    expect(wizard.fieldError('learning_rate')).toBe('too bold')
    expect(wizard.lack('settings')?.reason).toBe('settings')
  })
})

describe('pairs of answers', () => {
  const form = (form: string) => (input: Record<string, unknown>) => ({ ...(normal.datasets_check?.(input) as object), form })
  const beta = { name: 'beta', type: 'float', min: 0, default: { is: 'float', value: 0.1 }, help: '', only: ['dpo'] }

  it('are learned by comparing them, and single answers are not', async () => {
    backend.answers.finetune_config_schema = (input) => [...(normal.finetune_config_schema?.(input) as object[]), beta]
    const wizard = await complete()
    expect(wizard.unfit('dpo'), 'single answers have nothing to compare').toContain('chosen, rejected')
    expect(wizard.unfit('sft')).toBeUndefined()
    backend.answers.datasets_check = form('preference')
    await wizard.chooseDataset('/pairs.jsonl')
    expect(wizard.request?.strategy, 'the method follows the rows').toBe('dpo')
    expect(wizard.request, 'the learning rate is one for other methods').not.toHaveProperty('learning_rate')
    expect(wizard.unfit('qlora')).toContain('single answers')
    expect(STEPS.map((step) => wizard.lack(step)?.kind)).not.toContain('missing')

    wizard.set('beta', 0.5)
    expect(wizard.settings.changes).toContain('beta')
    expect(wizard.request).toMatchObject({ beta: 0.5 })
    backend.answers.datasets_check = normal.datasets_check as Answer
    await wizard.chooseDataset('/rows.jsonl')
    expect(wizard.request, 'what another method has is not sent').not.toHaveProperty('beta')
    expect(wizard.settings.value('strategy')).toBe('sft')
    expect(wizard.settings.changes).toEqual([])
  })

  it('stop where this version cannot compare', async () => {
    backend.answers.finetune_estimate = (input) => {
      if (input.strategy === 'dpo') throw field('strategy', 'not yet')
      return normal.finetune_estimate?.(input)
    }
    const wizard = await complete()
    backend.answers.datasets_check = form('preference')
    await wizard.chooseDataset('/pairs.jsonl')
    expect(wizard.lack('data')?.reason).toBe('dataPreference')
  })
})

describe('a model that is typed', () => {
  it('is asked for once typing rests, and older answers are dropped', async () => {
    const wizard = await complete()
    backend.calls = []
    for (const text of ['o', 'ow', 'owner/na', 'owner/name']) wizard.model.type(text, 'text-generation', [])
    await settle()
    expect(inputs('finetune_validate_model')).toEqual([{ selected_model: 'owner/name' }])
    expect(wizard.model.other).toMatchObject({ state: 'found', name: 'owner/name', need: { fit: 'fits' } })
    wizard.model.type('owner/other', 'text-generation', [])
    expect(backend.calls.find((call) => call.op === 'finetune_validate_model')?.signal?.aborted).toBe(true)
    wizard.model.type('no name', 'text-generation', [])
    expect(wizard.model.other.state, 'what cannot be a name is not asked for').toBe('malformed')
  })
})

describe('a run that is too large', () => {
  it('comes with changes that make it fit, by asking', async () => {
    const wizard = await complete()
    backend.answers.finetune_estimate = (input) => {
      const total = input.bf16 ? 800 : 1500
      const estimate = normal.finetune_estimate?.(input) as object
      return { ...estimate, memory: memory(total), fit: total > 1000 ? 'too_large' : 'fits', longest_row: 512 }
    }
    wizard.set('num_train_epochs', 4)
    await settle()
    expect(wizard.lack('review')?.reason).toBe('planTooLarge')
    expect(wizard.plan.fixes, 'only what is enough is offered').toEqual([{ id: 'bf16', patch: { bf16: true }, bytes: 800, fit: 'fits' }])
    wizard.apply(wizard.plan.fixes[0]!)
    await settle()
    expect(wizard.lack('review')).toBeNull()
  })

  it('may start when the test run measured less', async () => {
    const wizard = await complete()
    backend.answers.finetune_estimate = (input) => ({ ...(normal.finetune_estimate?.(input) as object), fit: 'too_large' })
    wizard.set('num_train_epochs', 4)
    await settle()
    expect(wizard.lack('review')?.reason).toBe('planTooLarge')
    backend.answers.finetune_dry_run = measured
    await wizard.test.start(wizard.request!)
    expect(wizard.lack('review')).toBeNull()
    wizard.set('num_train_epochs', 5)
    await settle()
    expect(wizard.lack('review')?.reason, 'a measurement holds for the run that was measured').toBe('planTooLarge')
  })
})

describe('where runs are computed', () => {
  it('is looked at on coming back: what was asked for another place is asked again', async () => {
    const app = { theme: 'system', language: null, offline: false, hub_endpoint: null, unload_after_minutes: 15 } as const
    settings.value = { ...app, compute_on: 'auto' }
    const wizard = await complete()
    backend.answers.finetune_dry_run = measured
    await wizard.test.start(wizard.request!)
    expect(wizard.test.report(wizard.request)).not.toBeNull()
    // The lengths of rows are looked at for one epoch.
    const asked = () => inputs('finetune_estimate').filter(({ num_train_epochs }) => num_train_epochs !== 1).length
    const before = asked()
    await wizard.open()
    await settle()
    expect(asked(), 'nothing has changed').toBe(before)

    settings.value = { ...app, compute_on: 'cpu' }
    backend.answers.finetune_estimate = (input) => ({ ...(normal.finetune_estimate?.(input) as object), free_memory_bytes: 9000 })
    await wizard.open()
    await settle()
    expect(wizard.plan.estimate?.free_memory_bytes).toBe(9000)
    expect(wizard.settings.freeMemory, 'the scale of all models').toBe(9000)
    expect(wizard.test.report(wizard.request), 'measured on the card').toBeNull()
    expect(wizard.lack('review')).toBeNull()
  })
})

describe('starting', () => {
  it('gives the run\'s id and keeps the choices for the next', async () => {
    const wizard = await complete()
    wizard.set('name', 'Mine')
    expect(await wizard.start()).toBe('train_1')
    expect(inputs('finetune_start_training')[0]).toMatchObject({ name: 'Mine', dataset: '/rows.jsonl', model_name: 'big' })
    expect(wizard.draft).toMatchObject({ started: 'train_1', dataset: '/rows.jsonl' })
    expect(wizard.name, 'two models of one name would be hard to tell apart').toBe('big-rows')
  })

  it('shows why a run was refused', async () => {
    const wizard = await complete()
    backend.answers.finetune_start_training = () => {
      throw new AppError(400, 'Training already in progress: train_0')
    }
    expect(await wizard.start()).toBeNull()
    expect(wizard.startError?.message).toContain('train_0')
  })
})
