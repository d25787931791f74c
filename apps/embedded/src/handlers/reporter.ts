import { writeSync } from 'node:fs';
import {
  MAX_CHECKPOINT_BYTES,
  MAX_EVENT_BYTES,
  MAX_PROGRESS_BYTES,
  parseAgentMessage,
  SPEC_LIMITS,
  type AgentMessage,
} from '#libs/contracts';

/** The time between two tries to write to a full pipe: the worker reads at a bounded rate. Milliseconds. */
const FULL_MS = 2;
const MOST_BYTES: Partial<Record<AgentMessage['type'], number>> = {
  progress: MAX_PROGRESS_BYTES,
  checkpoint: MAX_CHECKPOINT_BYTES,
  event: MAX_EVENT_BYTES,
  result: SPEC_LIMITS.maxResultBytes,
};

/** A handler reported a value that no report can carry. If the handler does not catch it, its code becomes the node's. */
export class NotReportable extends Error {
  override readonly name = 'NotReportable';

  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/**
 * Writes a report to file descriptor 3 as one line, after checking that the worker accepts it.
 * @throws NotReportable
 */
export function report(message: AgentMessage): void {
  const { type } = message;
  const label = type.toUpperCase();
  let line: string;
  try {
    line = JSON.stringify(message);
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new NotReportable(`${label}_NOT_JSON`, `The ${type} cannot be written as JSON: ${why}`);
  }
  const bytes = Buffer.byteLength(type === 'result' ? JSON.stringify(message.value) : line);
  const most = MOST_BYTES[type] ?? Number.POSITIVE_INFINITY;
  if (bytes > most)
    throw new NotReportable(
      `${label}_TOO_LARGE`,
      `The ${type} is ${bytes} bytes, larger than ${most}; store it elsewhere and report a reference.`,
    );
  if (parseAgentMessage(line) === undefined)
    throw new NotReportable(
      `${label}_NOT_JSON`,
      `The ${type} is refused: it is nested too deep, or out of its bounds.`,
    );
  writeWhole(3, `${line}\n`);
}

/** Writes a line of the agent's log. */
export function say(line: string): void {
  writeWhole(1, `${line}\n`);
}

/** Synchronously, so that the report of a process that ends in the next moment is complete. */
function writeWhole(fd: number, text: string): void {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_MS);
    }
  }
}
