// All finished models, the newest first.
import { call } from '../api/client'
import type { ModelRow } from '../api/generated'
import { Collection } from './collection.svelte'

export const models = new Collection<ModelRow>(
  () => call('models_list', {}),
  (model) => model.model_id,
)
