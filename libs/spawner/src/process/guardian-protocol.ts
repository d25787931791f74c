import type { ChildExit } from '../native';
import type { WorkerMarks } from './end-worker-trees';
import type { PidStart } from './proc-stat';
import type { Containment } from './process-host.types';

/**
 * A start that the worker requests. Its descriptors come through the socket, under the same number. Its strings follow the line
 * (start-order.ts): `bytes` of them, with the arguments before the variables.
 */
export interface StartOrder {
  readonly id: number;
  readonly file: string;
  readonly cwd: string;
  readonly args: number;
  /** Never 0: a program has a name. */
  readonly bytes: number;
}

/**
 * A worker's messages to its guardian, one JSON object a line on the guardian's stdin. End of file without `bye` means that the
 * worker died. Cookies travel here and never in arguments, which every user of the machine can read.
 */
export type GuardianMessage =
  // `remove`: files and folders of the worker that are removed once its trees are proved dead. `proof`: the file that keeps the
  // guardian's proof, until a worker has reported it to the server.
  | {
      readonly type: 'watch';
      readonly marks: WorkerMarks;
      /** Whether to call libc, as the worker does. */
      readonly native: boolean;
      /** Whether the guardian starts the agents, and adopts orphans below them. */
      readonly starts: boolean;
      readonly remove: readonly string[];
      /** Where the worker's record is. */
      readonly dataDir: string;
      readonly proof: {
        readonly path: string;
        readonly workerId: string;
        readonly containment: Containment;
        /** Signs the proof. Only the worker, this process and the server know it. */
        readonly key: string;
      };
    }
  // Started by the worker itself. The guardian knows the processes that it started.
  | { readonly type: 'started'; readonly leader: PidStart }
  | { readonly type: 'ended'; readonly pid: number }
  // A time of the machine's monotonic clock (`monotonicMs`), milliseconds; 0 disarms. A time, not a duration, so that neither a
  // slow message nor a later guardian delays it.
  | { readonly type: 'fence'; readonly at: number }
  // Answered at once with the same number (`pongOf`).
  | { readonly type: 'ping'; readonly nonce: number }
  // Answered by `begunLine` directly before the process is made, and then by `spawnedLine` or `failedLine`, before any later
  // message is read.
  | ({ readonly type: 'start' } & StartOrder)
  // Dead children of the guardian for which nobody waits any more. Answered by `doneLine`, after the exits known by then.
  | { readonly type: 'reap'; readonly id: number; readonly pids: readonly number[] }
  | { readonly type: 'bye' };

/** The machine's monotonic clock, milliseconds: the same for every process of one machine and time namespace. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** The guardian's messages on its stdout, one line each. This one says that it watches; the next answers a ping. */
export const GUARDIAN_READY = 'ready';
export const pongOf = (nonce: number): string => `pong ${nonce}`;
/** From here on there may be a process. */
export const begunLine = (id: number): string => `begun ${id}`;
export const spawnedLine = (id: number, pid: number): string => `spawned ${id} ${pid}`;
export const failedLine = (id: number, code: string): string => `failed ${id} ${code}`;
export const doneLine = (id: number): string => `done ${id}`;
/** Unasked: an agent's first process ended. It stays a zombie until the worker asks to reap it. */
export const exitLine = (pid: number, { code, signal }: ChildExit): string =>
  `exit ${pid} ${code ?? '-'} ${signal ?? '-'}`;
/** The guardian never writes a longer line. */
export const MAX_GUARDIAN_LINE = 100;
