import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import {
  NativeError,
  reapChild,
  sendDescriptors,
  type ChildExit,
  type Libc,
  type SpawnPlan,
} from '../native';
import type { ExitListener, FirstProcess } from './first-process';
import type { GuardianMessage } from './guardian-protocol';
import { failure } from './resolve-command';

/** Starts that one guardian has in hand: it does one after the other. */
const MOST_AT_ONCE = 16;
/** It does what it is told at once, so one that takes longer hangs or was stopped. A start waits as long for a guardian. */
const ANSWER_MS = 3_000;
/** An answer may wait in the pipe while this process was stopped itself. */
const READ_FIRST_MS = 50;
/** How often those that came to this process are looked at: there is no news of their end. */
const STRANDED_MS = 20;

/** A first process that the guardian started. */
export interface GuardedProcess extends FirstProcess {
  readonly pid: number;
}

interface Asked {
  readonly kind: 'start' | 'reap';
  readonly answer: Promise<string | undefined>;
  settle(answer: string | undefined): void;
}

/** The parts of the guardian's runner that these starts use. */
export interface StartsLine {
  tell(message: GuardianMessage): void;
  /** It does not answer: it has to be replaced. */
  stuck(): void;
  /** Whether the event loop has to go on, to hear from it. */
  hold(needed: boolean): void;
}

/**
 * The worker's side of agents that its guardian starts: asks for each start, hands over its descriptors, and tells of each
 * end. A guardian that dies leaves its children to this process, a subreaper, which waits for them from then on.
 */
export class GuardianStarts {
  #socket: number | undefined;
  #requests = 0;
  #starting = 0;
  readonly #asked = new Map<number, Asked>();
  readonly #waiting = new Set<() => void>();
  /** By pid, until their end was told. */
  readonly #running = new Map<number, Guarded>();
  /** Those of them whose guardian died. */
  readonly #stranded = new Set<Guarded>();
  #strandedTimer: NodeJS.Timeout | undefined;

  constructor(
    private readonly libc: Libc,
    private readonly line: StartsLine,
  ) {}

  /** A guardian watches, at the other end of `socket`, which is ours to close. */
  attach(socket: number): void {
    this.#socket = socket;
    this.#wakeAll();
  }

  /** That guardian is gone, and everything that it wrote was read. */
  detach(socket: number): void {
    closeSync(socket);
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    for (const { settle } of this.#asked.values()) settle(undefined);
    for (const guarded of this.#running.values()) this.#stranded.add(guarded);
    if (this.#stranded.size > 0) this.#strandedTimer ??= setInterval(() => this.#lookAfter(), STRANDED_MS);
  }

  /** Whether the guardian, or this process, waits for this child: nobody else may reap it. */
  holds(pid: number): boolean {
    return this.#running.has(pid);
  }

  /** Settles when all starts, or all reaps, that are under way have been answered; undefined when there are none. */
  settled(kind: Asked['kind']): Promise<unknown> | undefined {
    const answers = [...this.#asked.values()].filter((asked) => asked.kind === kind);
    return answers.length === 0 ? undefined : Promise.all(answers.map(async ({ answer }) => answer));
  }

  /** @throws NativeError as `posixSpawn`; BelayError SPAWN_FAILED, reason GUARDIAN, when it dies or does not answer. */
  async start(plan: SpawnPlan): Promise<GuardedProcess> {
    const socket = await this.#turn();
    try {
      return await this.#start(plan, socket);
    } finally {
      this.#starting -= 1;
      this.#wakeAll();
    }
  }

  /** Dead children of the guardian's whose end nobody waits for (any more). */
  reap(pids: readonly number[]): void {
    if (this.#socket === undefined || pids.length === 0) return;
    const id = (this.#requests += 1);
    void this.#ask('reap', { type: 'reap', id, pids });
  }

  /** One line that the guardian wrote. */
  heard(text: string): void {
    const [word = '', first, ...rest] = text.split(' ');
    // At once: the line of its end may be the next.
    if (word === 'spawned') this.#guard(Number(rest[0]));
    if (word === 'exit') this.#running.get(Number(first))?.ended(exitOf(rest));
    else this.#asked.get(Number(first))?.settle([word, ...rest].join(' '));
  }

  /** Nothing is started any more, and nobody waits for what was. */
  close(): void {
    clearInterval(this.#strandedTimer);
    this.#running.clear();
    this.#stranded.clear();
    this.#hold();
  }

  async #start({ fds, ...plan }: SpawnPlan, socket: number): Promise<GuardedProcess> {
    const id = (this.#requests += 1);
    try {
      sendDescriptors(this.libc, socket, id, fds);
    } catch (error) {
      throw lost(error);
    }
    const answer = await this.#ask('start', { type: 'start', id, ...plan });
    // A process it may have started has no tree: it is ended on sight, as an orphan that nobody knows.
    if (answer === undefined) throw lost();
    const [word, result = ''] = answer.split(' ');
    const guarded = this.#running.get(Number(result));
    if (word === 'failed' || guarded === undefined) throw new NativeError('posix_spawn', errnoOf(result));
    return guarded;
  }

  /** Resolves with the socket of a guardian that has room for one more. */
  async #turn(): Promise<number> {
    const giveUpAt = performance.now() + ANSWER_MS;
    while (this.#socket === undefined || this.#starting >= MOST_AT_ONCE) {
      const leftMs = giveUpAt - performance.now();
      if (leftMs <= 0 && this.#socket === undefined) throw lost();
      await this.#change(Math.max(leftMs, READ_FIRST_MS));
    }
    this.#starting += 1;
    return this.#socket;
  }

  #change(boundMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, boundMs);
      this.#waiting.add(wake);
    });
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake();
  }

  #ask(kind: Asked['kind'], message: GuardianMessage & { readonly id: number }): Promise<string | undefined> {
    const { id } = message;
    let settle: (answer: string | undefined) => void = () => undefined;
    const answer = new Promise<string | undefined>((resolve) => (settle = resolve));
    const judge = (): void => void (this.#asked.has(id) && this.line.stuck());
    let timer = setTimeout(() => (timer = setTimeout(judge, READ_FIRST_MS)), ANSWER_MS);
    this.#asked.set(id, {
      kind,
      answer,
      settle: (text) => {
        clearTimeout(timer);
        this.#asked.delete(id);
        this.#hold();
        settle(text);
      },
    });
    this.#hold();
    this.line.tell(message);
    return answer;
  }

  #guard(pid: number): void {
    const guarded = new Guarded(pid, () => {
      this.#running.delete(pid);
      this.#stranded.delete(guarded);
      this.#hold();
    });
    this.#running.set(pid, guarded);
    this.#hold();
  }

  #lookAfter(): void {
    for (const guarded of this.#stranded) {
      const exit = reapChild(this.libc, guarded.pid);
      if (exit === 'running') continue;
      this.#stranded.delete(guarded);
      guarded.ended(exit === 'not-a-child' ? { code: null, signal: null } : exit);
    }
    if (this.#stranded.size > 0) return;
    clearInterval(this.#strandedTimer);
    this.#strandedTimer = undefined;
  }

  #hold(): void {
    this.line.hold(this.#running.size > 0 || this.#asked.size > 0);
  }
}

class Guarded implements GuardedProcess {
  #exit: ChildExit | undefined;
  #listener: ExitListener | undefined;

  /** @param onTold the listener knows: from here on its number may be given away. */
  constructor(
    readonly pid: number,
    private readonly onTold: () => void,
  ) {}

  onExit(listener: ExitListener): void {
    this.#listener = listener;
    if (this.#exit !== undefined) process.nextTick(() => this.#deliver());
  }

  ended(exit: ChildExit): void {
    if (this.#exit !== undefined) return;
    this.#exit = exit;
    if (this.#listener !== undefined) this.#deliver();
  }

  #deliver(): void {
    const { code = null, signal = null } = this.#exit ?? {};
    this.#listener?.(code, signal);
    this.onTold();
  }
}

function lost(cause?: unknown): Error {
  return failure(
    'GUARDIAN',
    'The agent was not started: the guardian, which starts it, is not there.',
    {},
    cause,
  );
}

function exitOf([code = '-', signal = '-']: readonly string[]): ChildExit {
  return {
    code: code === '-' ? null : Number(code),
    signal: signal === '-' ? null : (signal as NodeJS.Signals),
  };
}

function errnoOf(code: string): number {
  return (constants.errno as Record<string, number | undefined>)[code] ?? 0;
}
