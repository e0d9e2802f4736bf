// What the person set for the whole app; colours and language take effect here.
import { AppError, call } from '../api/client'
import type { Settings, SettingsSetInput, Theme } from '../api/generated'
import { language } from '../i18n'

/** Where the choice of colours is kept for the next start, which reads it before the first paint. */
const THEME_KEY = 'modelforge.theme'

class AppSettings {
  value = $state.raw<Settings | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)
  wanted = true

  async refresh(): Promise<void> {
    try {
      await this.#take(await call('settings_get', {}))
      this.error = null
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.loading = false
  }

  /** Changes the settings that are given. Rejected with an `AppError`, and then nothing has changed. */
  async set(patch: SettingsSetInput): Promise<void> {
    // The backend gives what is left out its default again.
    await this.#take(await call('settings_set', { ...this.value, ...patch }))
  }

  async #take(value: Settings): Promise<void> {
    const before = this.value
    this.value = value
    if (before?.theme !== value.theme) paint(value.theme)
    if (before === null || before.language !== value.language) await language.choose(value.language)
  }
}

export const settings = new AppSettings()

const systemDark = matchMedia('(prefers-color-scheme: dark)')

function paint(theme: Theme): void {
  const dark = theme === 'dark' || (theme === 'system' && systemDark.matches)
  document.documentElement.dataset.theme = dark ? 'dark' : 'light'
  localStorage.setItem(THEME_KEY, theme)
}

systemDark.addEventListener('change', () => paint(settings.value?.theme ?? 'system'))
