// The module `virtual:licenses`: what the program is made of and under which licenses, read from the packages themselves when
// the pages are built. Crates are those of this system's program; packages are those that the pages bring along.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Plugin } from 'vite'

export interface Licenses {
  packages: License[]
  /** License files, each once. */
  texts: string[]
}

/** What one package stands under. */
export interface License {
  /** With its version. */
  name: string
  /** As SPDX has it, such as `MIT OR Apache-2.0`. */
  expression: string
  /** Places in `texts`; none where the package comes without a license file. */
  texts: number[]
}

interface Package {
  name: string
  version: string
  expression: string
  folder: string
}

const UI = join(import.meta.dirname, '..')
const ROOT = join(UI, '..')

const ID = 'virtual:licenses'
const RESOLVED = `\0${ID}`

export function licenses(): Plugin {
  return {
    name: 'licenses',
    resolveId: (id) => (id === ID ? RESOLVED : undefined),
    load: (id) => (id === RESOLVED ? `export default ${JSON.stringify(collect())}` : undefined),
  }
}

/** All packages by name. Many have the same text, so that each is kept once. */
export function collect(): Licenses {
  const texts: string[] = []
  const places = new Map<string, number>()
  const place = (text: string): number => {
    const key = text.replace(/\s+/g, ' ')
    const known = places.get(key) ?? texts.push(text) - 1
    places.set(key, known)
    return known
  }
  const packages = [...crates(), ...pages()].map(({ name, version, expression, folder }) => ({
    name: `${name} ${version}`,
    expression,
    texts: files(folder).map(place),
  }))
  return { packages: packages.sort((a, b) => a.name.localeCompare(b.name, 'en')), texts }
}

const FILES = /^(un)?licen[cs]e|^copying|^notice/i

function files(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile() && FILES.test(entry.name))
  return entries.map(({ name }) => readFileSync(join(folder, name), 'utf8').trim())
}

interface Metadata {
  packages: { id: string; name: string; version: string; license: string | null; manifest_path: string; source: string | null }[]
  resolve: { root: string; nodes: { id: string; deps: { pkg: string; dep_kinds: { kind: string | null }[] }[] }[] }
}

/** The crates that the program is linked from: no build scripts' and no tests'. */
function crates(): Package[] {
  const host = /^host: (.+)$/m.exec(run('rustc', '-vV'))?.[1]
  if (!host) throw new Error('rustc -vV names no host')
  const metadata: Metadata = JSON.parse(run('cargo', 'metadata', '--locked', '--format-version', '1', '--filter-platform', host))
  const needs = new Map(metadata.resolve.nodes.map(({ id, deps }) => [id, deps]))
  const linked = new Set<string>()
  const open = [metadata.resolve.root]
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (linked.has(id)) continue
    linked.add(id)
    for (const { pkg, dep_kinds } of needs.get(id) ?? []) if (dep_kinds.some(({ kind }) => kind === null)) open.push(pkg)
  }
  return metadata.packages
    .filter(({ id, source }) => source !== null && linked.has(id))
    .map(({ name, version, license, manifest_path }) => ({ name, version, expression: license ?? '', folder: dirname(manifest_path) }))
}

/** The packages of the lock file that are not for development only. */
function pages(): Package[] {
  const lock: { packages: Record<string, { version: string; license?: string; dev?: boolean; optional?: boolean; devOptional?: boolean }> } = JSON.parse(
    readFileSync(join(UI, 'package-lock.json'), 'utf8'),
  )
  return Object.entries(lock.packages)
    .filter(([path, { dev, optional, devOptional }]) => path !== '' && !dev && !optional && !devOptional)
    .map(([path, { version, license }]) => ({
      name: path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length),
      version,
      expression: license ?? '',
      folder: join(UI, path),
    }))
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] })
}
