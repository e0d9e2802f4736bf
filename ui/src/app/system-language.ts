// A system without a language calls it "C", which Intl refuses wherever it is asked for; uPlot asks when it is loaded.
export function settleSystemLanguage(): void {
  try {
    new Intl.NumberFormat(navigator.language)
  } catch {
    Object.defineProperty(navigator, 'language', { value: 'en', configurable: true })
  }
}
