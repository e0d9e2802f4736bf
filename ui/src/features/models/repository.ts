// Names of repositories of the Hub.

/** A model's name as a repository's: letters, digits, `-`, `_` and `.`, as the Hub takes them. */
export function repoName(title: string): string {
  const ascii = title.normalize('NFKD').replace(/[\u0300-\u036f]/g, '')
  const name = ascii.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/-{2,}|\.{2,}/g, '-').replace(/^[-.]+|[-.]+$/g, '')
  return name.slice(0, 96) || 'model'
}

/** Whether the Hub takes this as a repository's name. */
export function isRepoName(name: string): boolean {
  return /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/.test(name) && !/--|\.\.|\.git$|\.ipynb$/.test(name)
}
