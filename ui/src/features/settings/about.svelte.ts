// What this program and this computer are.
import { AppError, call } from '../../api/client'
import type { AppInfoOutput, Hardware } from '../../api/generated'
import { count, t } from '../../i18n'
import { hardware } from '../../state'

const SYSTEMS: Record<string, string> = { linux: 'Linux', macos: 'macOS', windows: 'Windows' }

export class About {
  value = $state.raw<AppInfoOutput | null>(null)
  loading = $state(true)
  error = $state.raw<AppError | null>(null)

  refresh = async (): Promise<void> => {
    void hardware.ensure()
    try {
      this.value = await call('app_info', {})
      this.error = null
    } catch (thrown) {
      this.error = AppError.from(thrown)
    }
    this.loading = false
  }
}

/** "Linux, x86_64", "8 processor cores", "32 GB of memory", the GPU. */
export function systemLines(info: AppInfoOutput, specs: Hardware | null): string[] {
  const lines = [t('settings.about.os', { os: SYSTEMS[info.os] ?? info.os, arch: info.arch })]
  if (!specs) return lines
  lines.push(t('settings.about.cores', { n: specs.cpu_cores }), t('settings.about.memory', { n: count(specs.ram_gb) }))
  if (specs.gpu_memory_gb === 0) return [...lines, t('settings.about.noGpu')]
  lines.push(t('settings.about.gpu', { name: specs.gpu_name, n: count(specs.gpu_memory_gb) }))
  if (specs.cuda_version) lines.push(t('settings.about.cuda', { version: specs.cuda_version }))
  return lines
}

/** What helps who looks into a problem, in English whatever the app speaks; without names of folders or people. */
export function diagnostics(info: AppInfoOutput, specs: Hardware | null): string {
  const lines = [`ModelForge ${info.version}`, `${info.os} ${info.arch}`]
  if (specs) {
    const { cpu_cores, ram_gb, disk_space_gb, gpu_name, gpu_memory_gb, cuda_version } = specs
    lines.push(`${cpu_cores} cores, ${ram_gb} GiB of memory, ${disk_space_gb} GiB of disk free`)
    lines.push(gpu_memory_gb > 0 ? `${gpu_name}, ${gpu_memory_gb} GiB` : gpu_name)
    if (cuda_version) lines.push(`CUDA ${cuda_version}`)
  }
  return [...lines, navigator.userAgent].join('\n')
}
