// The datasets that were used, the newest first.
import { call } from '../api/client'
import type { Dataset } from '../api/generated'
import { Collection } from './collection.svelte'

export const datasets = new Collection<Dataset>(
  () => call('datasets_list', {}),
  (dataset) => dataset.name,
)
