import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { within } from '../measure';

const BEGIN_MS = 60_000;
const DIE_MS = 30_000;
let made = 0;

/** A process that has one end of a pipe and sleeps; the benchmark has the other end. */
export interface Mortal {
  /** The pipe: a tree of which every process has this end is gone when its last process is. */
  readonly path: string;
  /** The command to run. */
  readonly command: readonly string[];
  /** Resolves when the process runs. */
  readonly began: Promise<void>;
  /**
   * Resolves when the signal had taken effect: the kernel closes a dying process's end of the pipe, and that is an event here.
   * One clock for every killer, and no polling.
   */
  readonly died: Promise<number>;
}

/** Prepares `count` of them; another process starts them. */
export function makeMortals(dir: string, count: number): Mortal[] {
  const paths = Array.from({ length: count }, () => join(dir, `p${made++}`));
  execFileSync('mkfifo', ['-m', '600', ...paths]);
  return paths.map(watchPipe);
}

function watchPipe(path: string): Mortal {
  // Until the process has its end, this one keeps the pipe from looking closed.
  const held = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const socket = new Socket({ fd, readable: true, writable: false });
  const began = new Promise<void>((resolve) => {
    socket.once('data', () => {
      closeSync(held);
      resolve();
    });
  });
  const died = new Promise<number>((resolve) => socket.once('end', () => resolve(performance.now())));
  return {
    path,
    command: ['/bin/sh', '-c', 'exec 9>"$1"; echo >&9; exec sleep 600', 'sh', path],
    began: within(BEGIN_MS, 'the start of a process to be killed', began),
    // Counted from its start: before that there is nothing to wait for.
    died: began.then(async () => within(BEGIN_MS + DIE_MS, 'the end of a killed process', died)),
  };
}
