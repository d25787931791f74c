import type { ChildExit } from '../native';
import type { WorkerMarks } from './end-worker-trees';
import type { PidStart } from './proc-stat';
import type { Containment } from './process-host.types';

/**
 * A start that the worker asks for; its descriptors come through the socket, under the same number. Its strings follow the
 * line (start-order.ts): so many bytes of them, and so many arguments before the variables.
 */
export interface StartOrder {
  readonly id: number;
  readonly file: string;
  readonly cwd: string;
  readonly args: number;
  /** Never none: a program has a name. */
  readonly bytes: number;
}

/**
 * A worker's messages to its guardian, one JSON object a line on the guardian's stdin. End of file without `bye` means
 * that the worker died. Cookies travel here and never in arguments, which every user of the machine can read.
 */
export type GuardianMessage =
  // `remove`: files and folders of the worker's that go once its trees are proved dead.
  // `proof`: the file that keeps what it saw, until a worker has told the server.
  | {
      readonly type: 'watch';
      readonly marks: WorkerMarks;
      /** Whether to call libc, as the worker does. */
      readonly native: boolean;
      /** Whether the guardian starts the agents, and is given what loses its parent below them. */
      readonly starts: boolean;
      readonly remove: readonly string[];
      readonly proof: {
        readonly path: string;
        readonly workerId: string;
        readonly containment: Containment;
        /** Signs it. Only the worker, this process and the server know it. */
        readonly key: string;
      };
    }
  // By the worker itself. The guardian knows the processes that it starts.
  | { readonly type: 'started'; readonly leader: PidStart }
  | { readonly type: 'ended'; readonly pid: number }
  // The machine's monotonic clock (`monotonicMs`), milliseconds; 0 disarms. A moment, not a duration: it is not put off
  // by a message that travels slowly, or by a guardian that starts later.
  | { readonly type: 'fence'; readonly at: number }
  // Answered at once with the same number (`pongOf`).
  | { readonly type: 'ping'; readonly nonce: number }
  // Answered by `begunLine` directly before the process is made, and then by `spawnedLine` or `failedLine`; all of it before
  // anything that came later is read.
  | ({ readonly type: 'start' } & StartOrder)
  // Dead children of the guardian's that nobody waits for any more. Answered by `doneLine`, after the exits known by then.
  | { readonly type: 'reap'; readonly id: number; readonly pids: readonly number[] }
  | { readonly type: 'bye' };

/** The machine's monotonic clock, milliseconds: the same for every process of one machine and time namespace. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** The guardian's messages on its stdout, one line each: once it watches, and to a ping while it does. */
export const GUARDIAN_READY = 'ready';
export const pongOf = (nonce: number): string => `pong ${nonce}`;
/** From here on there may be a process. */
export const begunLine = (id: number): string => `begun ${id}`;
export const spawnedLine = (id: number, pid: number): string => `spawned ${id} ${pid}`;
export const failedLine = (id: number, code: string): string => `failed ${id} ${code}`;
export const doneLine = (id: number): string => `done ${id}`;
/** Unasked: an agent's first process ended. It stays in the process table until it is to be reaped. */
export const exitLine = (pid: number, { code, signal }: ChildExit): string =>
  `exit ${pid} ${code ?? '-'} ${signal ?? '-'}`;
/** Longer lines than these it never writes. */
export const MAX_GUARDIAN_LINE = 100;
