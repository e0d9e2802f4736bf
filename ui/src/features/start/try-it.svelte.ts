// "Try it now": a real run of the model and the sample that ship with the app. It needs no download and no choice.
import { AppError, call } from '../../api/client'
import type { FinetuneStartTrainingInput } from '../../api/generated'
import { STARTER } from '../../state/base-models.svelte'

export const SAMPLE = 'sample:order-slips'

/** What makes the starter model learn a sample of a few hundred short rows in about a minute, measured as it goes. */
export const TRIAL: FinetuneStartTrainingInput = {
  task: 'text-generation',
  model_name: STARTER,
  dataset: SAMPLE,
  max_steps: 100,
  per_device_train_batch_size: 8,
  gradient_accumulation_steps: 1,
  learning_rate: 2e-3,
  lr_scheduler_type: 'linear',
  warmup_ratio: 0.05,
  lora_dropout: 0,
  max_grad_norm: 1,
  gradient_checkpointing: false,
  eval_split: 0,
  eval_dataset: SAMPLE,
  eval_steps: 25,
}

export class TryIt {
  busy = $state(false)
  error = $state.raw<AppError | null>(null)

  /** Starts the run, which makes a model of this name. Gives the run's id; null where it did not start. */
  async start(name: string): Promise<string | null> {
    if (this.busy) return null
    this.busy = true
    this.error = null
    try {
      return (await call('finetune_start_training', { ...TRIAL, name })).job_id
    } catch (thrown) {
      this.error = AppError.from(thrown)
      return null
    } finally {
      this.busy = false
    }
  }
}
