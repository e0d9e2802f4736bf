// The host that this page runs in.
import { isTauri } from '@tauri-apps/api/core'
import { httpPlatform } from './http'
import { tauriPlatform } from './tauri'
import type { Platform } from './types'

export const platform: Platform = isTauri() ? tauriPlatform : httpPlatform()
export type { FileDrop, OnProgress, PickedDataset, Platform, ServerStatus, Shell } from './types'
