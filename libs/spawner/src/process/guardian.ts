import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { descriptorSocket, type Libc } from '../native';
import type { WorkerMarks } from './end-worker-trees';
import {
  GUARDIAN_READY,
  MAX_GUARDIAN_LINE,
  monotonicMs,
  pongOf,
  type GuardianMessage,
} from './guardian-protocol';
import { GuardianStarts } from './guardian-starts';
import { readLines } from './line-splitter';
import type { PidStart } from './proc-stat';
import { failure } from './resolve-command';

const READY_WAIT_MS = 10_000;
const EXIT_WAIT_MS = 2_000;
/** The guardian's only work is to answer: one that takes longer would not end a tree in time either. */
const ANSWER_MS = 500;
const FIRST_RESTART_MS = 10;
const LONGEST_RESTART_MS = 5_000;
/** A heap of a few megabytes suffices, and a small process starts and kills faster. */
const NODE_FLAGS = ['--max-old-space-size=32', '--max-semi-space-size=1', '--v8-pool-size=1'];

/** A guardian's first instructions, without the worker's identity. */
export interface GuardianPlan extends Omit<
  Extract<GuardianMessage, { type: 'watch' }>,
  'type' | 'marks' | 'starts'
> {
  readonly marks: Omit<WorkerMarks, 'leaders'>;
  /** The libc with which the guardian starts agents; without it, the worker starts them. */
  readonly starts: Libc | undefined;
}

/** The worker's side of its guardian: starts it, instructs it, and starts another when it dies. */
export class Guardian {
  restarts = 0;
  /** Agents that the guardian starts; undefined where the worker starts them. */
  readonly starts: GuardianStarts | undefined;
  #child: ChildProcess | undefined;
  #ending = false;
  #restartMs = FIRST_RESTART_MS;
  #restartTimer: NodeJS.Timeout | undefined;
  /** Takes over the children of the last guardian, once it is dead. Repeatable. */
  #leave: (() => void) | undefined;
  /** By the machine's monotonic clock; 0: not armed. */
  #fenceAt = 0;
  #pings = 0;
  /** The waiters for each answer. */
  readonly #asked = new Map<string, () => void>();
  readonly #leaders = new Map<number, PidStart>();

  private constructor(private readonly plan: GuardianPlan) {
    if (plan.starts !== undefined)
      this.starts = new GuardianStarts(plan.starts, {
        tell: (message, strings) => this.#tell(message, strings),
        stuck: () => void this.#child?.kill('SIGKILL'),
        hold: (needed) => this.#keepLoop(needed),
      });
  }

  /**
   * Resolves when the guardian watches.
   * @throws BelayError SPAWN_FAILED, reason GUARDIAN: a worker must not start agents without a guardian.
   */
  static async start(plan: GuardianPlan): Promise<Guardian> {
    const guardian = new Guardian(plan);
    await guardian.#launch();
    return guardian;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  started(leader: PidStart): void {
    this.#leaders.set(leader.pid, { pid: leader.pid, startTime: leader.startTime });
    // A guardian knows the processes that it started itself; its replacement must be told.
    if (this.starts?.holds(leader.pid) !== true)
      this.#tell({ type: 'started', leader: { pid: leader.pid, startTime: leader.startTime } });
  }

  ended(pid: number): void {
    if (this.#leaders.delete(pid)) this.#tell({ type: 'ended', pid });
  }

  /** @param since the `performance.now()` from which the silence counts. */
  armFence(silenceMs: number, since: number): void {
    this.#fenceAt = silenceMs > 0 ? monotonicMs() - (performance.now() - since) + silenceMs : 0;
    this.#tell({ type: 'fence', at: this.#fenceAt });
  }

  /**
   * Whether the guardian would act now: it answers through the pipe that it watches. A stopped process has a pid, but gives no
   * answer.
   */
  answers(): Promise<boolean> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null)
      return Promise.resolve(false);
    const nonce = ++this.#pings;
    return new Promise((resolve) => {
      const settle = (answered: boolean): void => {
        clearTimeout(timer);
        this.#asked.delete(pongOf(nonce));
        resolve(answered);
      };
      const timer = setTimeout(() => settle(false), ANSWER_MS);
      this.#asked.set(pongOf(nonce), () => settle(true));
      this.#tell({ type: 'ping', nonce });
    });
  }

  /**
   * Ends the guardian. With `trees: 'kill'` it first kills the remaining trees, as if the worker had died, and goes on in the
   * background when that takes longer than 2 s.
   */
  async end(trees: 'none' | 'kill'): Promise<void> {
    this.#ending = true;
    clearTimeout(this.#restartTimer);
    this.starts?.close();
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.ref(); // from here on this waits for its exit
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    if (trees === 'none') this.#tell({ type: 'bye' });
    child.stdin?.end();
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([exited, new Promise((resolve) => (timer = setTimeout(resolve, EXIT_WAIT_MS)))]);
    clearTimeout(timer);
    child.unref();
  }

  async #launch(): Promise<void> {
    const [ours, theirs] = this.plan.starts === undefined ? [] : descriptorSocket(this.plan.starts);
    const child = spawnGuardian(theirs);
    if (child.pid === undefined) {
      if (ours !== undefined) closeSync(ours);
      throw await notMade(child);
    }
    this.#child = child;
    const { stdin } = child;
    stdin?.on('error', () => {}); // its exit event says the same
    child.once('exit', () => this.#died(child));
    let isLeft = false;
    const leave = (): void => {
      if (isLeft || ours === undefined) return;
      isLeft = true;
      child.stdout?.destroy();
      this.starts?.detach(ours);
    };
    this.#leave = leave;
    // All its output was read by then.
    child.once('close', leave);
    const ready = waitReady(child, (line) => this.#heard(line));
    const leaders = [...this.#leaders.values()];
    const { marks, starts, ...plan } = this.plan;
    this.#tell({ type: 'watch', ...plan, marks: { ...marks, leaders }, starts: starts !== undefined });
    if (this.#fenceAt > 0) this.#tell({ type: 'fence', at: this.#fenceAt });
    await ready;
    this.#restartMs = FIRST_RESTART_MS;
    // Neither the guardian nor its pipes may keep the worker's event loop alive, unless an agent's end is awaited.
    child.unref();
    (stdin as unknown as { unref(): void }).unref();
    this.#keepLoop(false);
    if (ours !== undefined) this.starts?.attach(ours);
  }

  #heard(line: string): void {
    const waits = this.#asked.get(line);
    if (waits === undefined) this.starts?.heard(line);
    else waits();
  }

  #keepLoop(needed: boolean): void {
    const stdout = this.#child?.stdout as unknown as { ref(): void; unref(): void } | null | undefined;
    if (needed) stdout?.ref();
    else stdout?.unref();
  }

  #died(child: ChildProcess): void {
    if (this.#ending || child !== this.#child) return;
    this.restarts += 1;
    this.#restartLater();
  }

  /** A guardian that cannot be started now is retried, more and more rarely: without one, nobody ends the trees of a dead worker. */
  #restartLater(): void {
    if (this.#ending || this.#restartTimer !== undefined) return;
    this.#restartTimer = setTimeout(() => {
      this.#restartTimer = undefined;
      // A process that it was making may hold its output open, so no `close` came. What it had said was read with its exit.
      this.#leave?.();
      this.#launch().catch(() => this.#restartLater());
    }, this.#restartMs);
    this.#restartTimer.unref();
    this.#restartMs = Math.min(this.#restartMs * 2, LONGEST_RESTART_MS);
  }

  #tell(message: GuardianMessage, strings?: Buffer): void {
    const stdin = this.#child?.stdin;
    if (stdin?.writable !== true) return;
    stdin.write(`${JSON.stringify(message)}\n`);
    if (strings !== undefined) stdin.write(strings);
  }
}

/** @param theirs the guardian's end of the socket for descriptors, which is closed here. @throws the system's error */
function spawnGuardian(theirs: number | undefined): ChildProcess {
  try {
    return spawn(process.execPath, [...NODE_FLAGS, entryFile()], {
      cwd: '/',
      env: {},
      detached: true,
      stdio: ['pipe', 'pipe', 'ignore', ...(theirs === undefined ? [] : [theirs])],
    });
  } finally {
    if (theirs !== undefined) closeSync(theirs);
  }
}

/** The reason why there is no process: out of descriptors, at the limit of processes. */
function notMade(child: ChildProcess): Promise<Error> {
  return new Promise((resolve) =>
    child.once('error', (error) =>
      resolve(failure('GUARDIAN', `The guardian process could not be started: ${error.message}.`, {}, error)),
    ),
  );
}

/** Resolves with the guardian's first line, and hands on every further line for as long as it lives. */
function waitReady(child: ChildProcess, onLine: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (why: string, cause?: unknown): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(failure('GUARDIAN', `The guardian process could not be started: ${why}.`, {}, cause));
    };
    const timer = setTimeout(() => refuse(`not ready within ${READY_WAIT_MS} ms`), READY_WAIT_MS);
    child.once('error', (error) => refuse(error.message, error));
    child.once('exit', (code, signal) => refuse(`it ended with ${signal ?? `code ${code}`}`));
    const watching = (): void => {
      clearTimeout(timer);
      child.removeAllListeners('error').on('error', () => {});
      resolve();
    };
    if (child.stdout !== null)
      readLines(child.stdout, MAX_GUARDIAN_LINE, (line) =>
        line === GUARDIAN_READY ? watching() : onLine(line),
      );
  });
}

/** The compiled program beside this file; when this file runs as TypeScript, the program of the last build. */
function entryFile(): string {
  const beside = join(__dirname, 'guardian-main.js');
  if (existsSync(beside)) return beside;
  return join(__dirname, '../../../../dist/programs/guardian-main.js');
}
