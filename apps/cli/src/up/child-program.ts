import { fork, type ChildProcess } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { isOfAnother } from './describe-log-line';
import { openLog } from './prepare-data-dir';

/** A child's message that it is ready. */
export interface ReadyMessage {
  readonly type: 'ready';
  readonly url?: string;
  readonly workerId?: string;
}

export interface ProgramSpec {
  /** For people: `orchestrator`, `worker 1`. */
  readonly name: string;
  readonly program: string;
  readonly logFile: string;
  readonly env: NodeJS.ProcessEnv;
}

/** How a child ended. */
export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** This many log lines of a failed child are shown. */
const LINES_SHOWN = 12;
const TAIL_BYTES = 8 * 1024;

/** One process that `up` forked. */
export class ChildProgram {
  readonly exited: Promise<ChildExit>;
  private exit: ChildExit | undefined;
  private readonly child: ChildProcess;
  private readonly logFrom: number;
  private workerId: string | undefined;

  /**
   * Forks the process in a session of its own, so that Ctrl-C reaches only `up`, and the drain keeps its order. Its output goes
   * to a file: a pipe would end with `up`. The IPC channel tells the child when `up` is gone, in whatever way.
   */
  constructor(readonly spec: ProgramSpec) {
    const log = openLog(spec.logFile);
    try {
      this.logFrom = fstatSync(log).size;
      this.child = fork(spec.program, [], {
        detached: true,
        env: spec.env,
        execArgv: [],
        stdio: ['ignore', log, log, 'ipc'],
      });
    } finally {
      closeSync(log);
    }
    this.exited = new Promise((resolve) => {
      const ended = (exit: ChildExit): void => {
        this.exit ??= exit;
        resolve(this.exit);
      };
      this.child.once('exit', (code, signal) => ended({ code, signal }));
      // A failed spawn has no exit event.
      this.child.once('error', () => {
        if (this.child.pid === undefined) ended({ code: 1, signal: null });
      });
    });
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  get isRunning(): boolean {
    return this.exit === undefined;
  }

  /** Resolves with its ready message; undefined when the process ended before, or the time is up. */
  async ready(withinMs: number): Promise<ReadyMessage | undefined> {
    let timer: NodeJS.Timeout | undefined;
    let listener: ((message: unknown) => void) | undefined;
    try {
      return await Promise.race([
        new Promise<ReadyMessage>((resolve) => {
          listener = (message) => {
            if ((message as { type?: unknown } | null)?.type !== 'ready') return;
            this.workerId = (message as ReadyMessage).workerId;
            resolve(message as ReadyMessage);
          };
          this.child.on('message', listener);
        }),
        this.exited.then(() => undefined),
        new Promise<undefined>((resolve) => {
          timer = setTimeout(() => resolve(undefined), withinMs);
        }),
      ]);
    } finally {
      clearTimeout(timer);
      if (listener !== undefined) this.child.off('message', listener);
    }
  }

  /** Sends a signal while the process runs. Node forgets the pid at its exit, so no other process is hit. */
  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.child.kill(signal);
  }

  /** Sends a message over its channel. A process that is about to end does not read it. */
  tell(message: { readonly type: string }): void {
    if (this.child.connected) this.child.send(message, () => undefined);
  }

  /** Resolves with its exit; undefined when the time is up. */
  async waitExit(withinMs: number): Promise<ChildExit | undefined> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await Promise.race([
        this.exited,
        new Promise<undefined>((resolve) => {
          timer = setTimeout(() => resolve(undefined), withinMs);
        }),
      ]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The last log lines of this very process. */
  lastLines(most = LINES_SHOWN): string[] {
    let handle: number;
    try {
      handle = openSync(this.spec.logFile, 'r');
    } catch {
      return [];
    }
    try {
      const { size } = fstatSync(handle);
      const from = Math.max(Math.min(this.logFrom, size), size - TAIL_BYTES);
      const bytes = Buffer.alloc(size - from);
      const read = readSync(handle, bytes, 0, bytes.length, from);
      const lines = bytes.toString('utf8', 0, read).trimEnd().split('\n');
      // If the tail begins inside a line, that part is dropped.
      if (from > this.logFrom) lines.shift();
      return lines.filter((line) => !isOfAnother(line, this.workerId)).slice(-most);
    } finally {
      closeSync(handle);
    }
  }
}

/** `exit code 1`, `SIGKILL`. */
export function describeExit(exit: ChildExit): string {
  return exit.signal ?? `exit code ${exit.code}`;
}
