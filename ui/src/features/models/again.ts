// Handing a model's settings to the wizard, which takes them up when it opens.

const KEY = 'modelforge.again'

/** Any of the settings of a run; the wizard fills in the rest. */
export function trainAgain(config: object): void {
  sessionStorage.setItem(KEY, JSON.stringify(config))
  location.hash = '#/tune'
}
