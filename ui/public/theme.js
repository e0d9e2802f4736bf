// Sets the colours before the first paint: the last known choice, or the system's.
(function () {
  var choice = null
  try { choice = localStorage.getItem('modelforge.theme') } catch (_) { /* storage is off: the system's colours */ }
  var dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches)
  document.documentElement.dataset.theme = dark ? 'dark' : 'light'
})()
