// The backend's sentences, as they stand behind a title that says what kind of thing went wrong.

/** What the documented errors of datasets and of the program itself begin with. */
const OPENING = /^(Dataset validation failed|An internal error occurred): /

export function sentence(message: string): string {
  const text = message.replace(OPENING, '').trim()
  const ended = /[.!?。]$/.test(text) ? text : `${text}.`
  // A first word that is the name of a file or of a field stays as it is.
  return /^\p{L}+[\s,:]/u.test(ended) ? ended.charAt(0).toUpperCase() + ended.slice(1) : ended
}
