import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AppError } from '../../api/client'
import type { AppInfoOutput, Hardware, StorageUsage } from '../../api/generated'
import { platform } from '../../platform'
import type { ServerStatus, Shell } from '../../platform/types'
import { settings } from '../../state'
import { diagnostics, systemLines } from './about.svelte'
import { HubAccount } from './hub.svelte'
import { Preferences, unloadChoices } from './preferences.svelte'
import { LocalServer } from './server.svelte'
import { partsOf } from './storage.svelte'

afterEach(() => vi.restoreAllMocks())
beforeEach(() => localStorage.clear())

type Answers = Record<string, unknown>

/** Answers operations as the backend does; an `AppError` is thrown. */
function backend(answers: Answers): { op: string; input: unknown }[] {
  const asked: { op: string; input: unknown }[] = []
  vi.spyOn(platform, 'call').mockImplementation((op, input) => {
    asked.push({ op, input })
    const answer = answers[op]
    return answer instanceof AppError ? Promise.reject(answer) : Promise.resolve(answer as never)
  })
  return asked
}

const NOBODY = { source: 'none', account: null }
const ANNA = { source: 'keychain', account: { name: 'anna', fullname: 'Anna', kind: 'user', organizations: [], token_role: 'read' } }

describe('Hub account', () => {
  test('nobody signed in is no error', async () => {
    backend({ hub_whoami: NOBODY })
    const hub = new HubAccount()
    await hub.refresh()
    expect([hub.signedIn, hub.error, hub.loading]).toEqual([false, null, false])
  })

  test('a Hub that cannot be asked leaves the person signed in', async () => {
    backend({ hub_whoami: new AppError(500, 'the Hub cannot be reached') })
    const hub = new HubAccount()
    await hub.refresh()
    expect(hub.signedIn, 'only a token makes the backend ask').toBe(true)
    expect(hub.isOurs, 'it must be possible to sign out').toBe(true)
  })

  test('a saved token goes to the keychain and is not kept here', async () => {
    const asked = backend({ hub_set_token: { source: 'keychain' }, hub_whoami: ANNA })
    const hub = new HubAccount()
    hub.enter()
    hub.token = ' hf_abc '
    await hub.save()
    expect(asked[0]).toEqual({ op: 'hub_set_token', input: { token: 'hf_abc', allow_file: false } })
    expect([hub.token, hub.entering, hub.offersFile]).toEqual(['', false, false])
    expect(hub.account?.name).toBe('anna')
  })

  test('without a keychain the file is offered, and only written when chosen', async () => {
    const answers: Answers = { hub_set_token: { source: 'memory' }, hub_whoami: { ...ANNA, source: 'memory' } }
    const asked = backend(answers)
    const hub = new HubAccount()
    hub.token = 'hf_abc'
    await hub.save()
    expect(hub.offersFile).toBe(true)
    answers.hub_set_token = { source: 'file' }
    await hub.keepInFile()
    expect(asked.at(-1)?.input).toEqual({ token: 'hf_abc', allow_file: true })
    expect([hub.source, hub.offersFile]).toEqual(['file', false])
  })

  test('a refused token stays in the field with the reason', async () => {
    backend({ hub_set_token: new AppError(400, 'this is no access token') })
    const hub = new HubAccount()
    hub.enter()
    hub.token = 'bad token'
    await hub.save()
    expect([hub.entering, hub.token, hub.failure?.message]).toEqual([true, 'bad token', 'this is no access token'])
  })

  test('a token of the environment is not ours to forget', async () => {
    backend({ hub_whoami: { ...ANNA, source: 'environment' } })
    const hub = new HubAccount()
    await hub.refresh()
    expect([hub.signedIn, hub.isOurs]).toEqual([true, false])
  })

  test('signing out shows what is in use then', async () => {
    backend({ hub_clear_token: { source: 'none' }, hub_whoami: NOBODY })
    const hub = new HubAccount()
    await hub.signOut()
    expect([hub.signedIn, hub.account]).toEqual([false, null])
  })
})

describe('preferences', () => {
  const KEPT = { theme: 'dark', language: 'de', offline: true, hub_endpoint: null, compute_on: 'auto', unload_after_minutes: 30 } as const

  test('a change leaves the other settings alone', async () => {
    settings.value = KEPT
    const asked = backend({ settings_set: { ...KEPT, offline: false } })
    expect(await new Preferences().set({ offline: false })).toBe(true)
    expect(asked[0]?.input, 'the backend resets what is left out').toEqual({ ...KEPT, offline: false })
  })

  test('a refused change says so and changes nothing', async () => {
    settings.value = KEPT
    backend({ settings_set: new AppError(422, [{ loc: ['body', 'hub_endpoint'], msg: 'must be an address', type: 'value_error' }]) })
    const endpoint = new Preferences()
    expect(await endpoint.set({ hub_endpoint: 'x' })).toBe(false)
    expect(endpoint.error?.field('hub_endpoint')).toBe('must be an address')
    expect(settings.value).toEqual(KEPT)
  })

  test('a time that was set elsewhere can be chosen too, never stands last', () => {
    expect(unloadChoices(15)).toEqual([5, 15, 30, 60, 240, 0])
    expect(unloadChoices(20)).toEqual([5, 15, 20, 30, 60, 240, 0])
  })
})

describe('local server', () => {
  function shell(start: (port: number) => Promise<ServerStatus>): Shell {
    return {
      serverStatus: () => Promise.resolve({ running: false, url: null, token: null }),
      serverStart: start,
      serverStop: () => Promise.resolve({ running: false, url: null, token: null }),
    } as Partial<Shell> as Shell
  }

  test('tells the address it listens on and keeps the port for the next time', async () => {
    const on = { running: true, url: 'http://127.0.0.1:9000', token: 'k' }
    const server = new LocalServer(shell(() => Promise.resolve(on)))
    await server.refresh()
    server.port = 9000
    await server.turn(true)
    expect([server.on, server.address]).toEqual([true, 'http://127.0.0.1:9000'])
    expect(new LocalServer(shell(() => Promise.resolve(on))).port).toBe(9000)
    await server.turn(false)
    expect(server.on).toBe(false)
  })

  test('a port in use is told, and the server stays off', async () => {
    const server = new LocalServer(shell(() => Promise.reject(new AppError(400, 'port 9000 is in use'))))
    await server.turn(true)
    expect([server.on, server.error?.message, server.busy]).toEqual([false, 'port 9000 is in use', false])
  })

  test('is not asked to take what is no port', async () => {
    const start = vi.fn()
    const server = new LocalServer(shell(start))
    for (const port of [80, 70_000, null, 80.5]) {
      server.port = port
      await server.turn(true)
    }
    expect(start).not.toHaveBeenCalled()
  })
})

test('storage names only what takes room', () => {
  const usage = { cache_bytes: 0, runs_bytes: 5, models_bytes: 3, datasets_bytes: 0, database_bytes: 1 } as StorageUsage
  expect(partsOf(usage).map(({ bytes }) => bytes)).toEqual([5, 3, 1])
})

test('diagnostics name the machine, never folders', () => {
  const info = { name: 'ModelForge', version: '1.2.3', os: 'linux', arch: 'x86_64', home: '/data/anna/x', damaged_database: null } as AppInfoOutput
  const specs: Hardware = { gpu_name: 'RTX', gpu_memory_gb: 12, ram_gb: 32, disk_space_gb: 100, cpu_cores: 8, cuda_version: '12.4' }
  expect(diagnostics(info, specs)).toContain('ModelForge 1.2.3')
  expect(diagnostics(info, specs)).not.toContain('anna')
  expect(systemLines(info, specs)).toEqual(['Linux, x86_64', '8 processor cores', '32 GB of memory', 'RTX, 12 GB', 'CUDA 12.4'])
})
