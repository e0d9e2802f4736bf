// The operations as functions: typed by the generated table, done by the host.
import { platform } from '../platform'
import type { CallOptions, OperationName, StreamName, StreamOptions } from '../platform/types'
import type { Operations, Streams } from './generated'

export { AppError, UNREACHABLE, isAbort } from '../platform/error'

type Done = (op: OperationName) => void
const listeners = new Set<Done>()

/** Does an operation; rejected with an `AppError`, or an `AbortError` where the caller gave up. */
export async function call<Op extends OperationName>(
  op: Op,
  input: Operations[Op]['input'],
  options?: CallOptions,
): Promise<Operations[Op]['output']> {
  const output = await platform.call(op, input, options)
  for (const done of listeners) done(op)
  return output
}

/** Follows an operation that answers item by item; resolves when it is over or the caller ended it. */
export function stream<Op extends StreamName>(
  op: Op,
  input: Streams[Op]['input'],
  onItem: (item: Streams[Op]['item'], id: number | null) => void,
  options?: StreamOptions,
): Promise<void> {
  return platform.stream(op, input, onItem, options)
}

/** Tells of every operation that was done; returns what ends that. */
export function onDone(listener: Done): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}
