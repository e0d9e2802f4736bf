// A failure as every host reports it, with a sentence that can be shown.
import type { Detail, FieldError } from '../api/generated'
import { t } from '../i18n'

/** The status of a failure without an answer: the app is not there, or the connection broke off. */
export const UNREACHABLE = 0

export class AppError extends Error {
  /** The HTTP status that stands for the failure; [`UNREACHABLE`] without an answer. */
  readonly status: number
  readonly detail: Detail

  constructor(status: number, detail: Detail) {
    super(sentence(status, detail))
    this.name = 'AppError'
    this.status = status
    this.detail = detail
  }

  /** What is wrong with one field of the request. */
  field(name: string): string | undefined {
    if (typeof this.detail === 'string') return undefined
    return this.detail.find((entry) => entry.loc.at(-1) === name)?.msg
  }

  /** Any thrown value as an `AppError`: answers of the backend keep their status, the rest is told as it is. */
  static from(thrown: unknown): AppError {
    if (thrown instanceof AppError) return thrown
    if (isApiError(thrown)) return new AppError(thrown.status_code, thrown.detail)
    const text = thrown instanceof Error ? thrown.message : String(thrown)
    return new AppError(500, text)
  }
}

/** Whether a promise was rejected because its caller did not want the answer any more. */
export function isAbort(thrown: unknown): boolean {
  return typeof thrown === 'object' && thrown !== null && 'name' in thrown && thrown.name === 'AbortError'
}

function isApiError(value: unknown): value is { status_code: number; detail: Detail } {
  return typeof value === 'object' && value !== null && 'status_code' in value && 'detail' in value
}

function sentence(status: number, detail: Detail): string {
  if (status === UNREACHABLE) return t('common.error.unreachable')
  if (typeof detail === 'string') return detail || t('common.error.unknown')
  return detail.map(fieldSentence).join(' ') || t('common.error.unknown')
}

function fieldSentence({ loc, msg }: FieldError): string {
  const name = loc.at(-1)
  const text = name === undefined || name === 'body' || msg.startsWith(name) ? msg : `${name}: ${msg}`
  return /[.!?。]$/.test(text) ? text : `${text}.`
}
