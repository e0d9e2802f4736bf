// The screens: where each is, how the rail shows it, and the feature that draws it, which is loaded when it is gone to.
import type { Component } from 'svelte'
import type { IconName } from './components/icons'
import type { Key } from './i18n'

/** What a screen gets: the parts of the address behind its own, such as the id of a run. */
export interface PageProps {
  params: readonly string[]
}

export interface Route {
  /** The first part of the address: `#/runs/…`. */
  path: string
  label: Key
  icon: IconName
  feature: string
}

export const ROUTES: readonly Route[] = [
  { path: 'start', label: 'common.nav.start', icon: 'start', feature: 'start' },
  { path: 'tune', label: 'common.nav.tune', icon: 'tune', feature: 'wizard' },
  { path: 'runs', label: 'common.nav.runs', icon: 'runs', feature: 'runs' },
  { path: 'models', label: 'common.nav.models', icon: 'models', feature: 'models' },
  { path: 'chat', label: 'common.nav.chat', icon: 'chat', feature: 'chat' },
  { path: 'settings', label: 'common.nav.settings', icon: 'settings', feature: 'settings' },
]

const pages = import.meta.glob<{ default: Component<PageProps> }>('./features/*/Page.svelte')

/** The component of a screen. Rejected when its file cannot be loaded, as after an update of the server. */
export async function load(route: Route): Promise<Component<PageProps>> {
  const page = pages[`./features/${route.feature}/Page.svelte`]
  if (!page) throw new Error(`There is no screen for ${route.path}.`)
  return (await page()).default
}
