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
import { encodeStart, type EncodedStart } from './start-order';

/** One guardian has at most this many starts in hand, which it does one after the other. */
const MOST_AT_ONCE = 16;
/** With this many bytes on their way no further start is requested: a small start behind large ones is still answered soon. */
const MOST_BYTES = 1024 * 1024;
/** One start is requested from at most this many guardians, one after the other. */
const MOST_GUARDIANS = 3;
/**
 * The guardian does one request after the other, each at once. One that answers none for this long hangs or was stopped. A
 * start waits as long for a guardian.
 */
const ANSWER_MS = 3_000;
/** An answer may wait in the pipe while this process itself was stopped. */
const READ_FIRST_MS = 50;
/** How often processes of a dead guardian are looked at: nothing reports their end. */
const STRANDED_MS = 20;

/** A first process that the guardian started. */
export interface GuardedProcess extends FirstProcess {
  readonly pid: number;
}

interface Asked {
  readonly kind: 'start' | 'reap';
  /** Whether there may be a process. */
  hasBegun: boolean;
  readonly answer: Promise<string | undefined>;
  settle(answer: string | undefined): void;
}

/** The parts of the guardian's runner that these starts use. */
export interface StartsLine {
  /** @param strings the strings of a start. */
  tell(message: GuardianMessage, strings?: Buffer): void;
  /** The guardian does not answer and must be replaced. */
  stuck(): void;
  /** Whether the event loop must stay alive, to hear from the guardian. */
  hold(needed: boolean): void;
}

/**
 * The worker's side of agents that its guardian starts: requests each start, passes its descriptors, and reports each end. A
 * guardian that dies leaves its children to this process, a subreaper, which waits for them from then on.
 */
export class GuardianStarts {
  #socket: number | undefined;
  /** Counts guardians, since the number of a socket is reused. */
  #guardians = 0;
  #requests = 0;
  #starting = 0;
  /** The bytes of starts under way. */
  #bytes = 0;
  /** The time of the last answer. */
  #answeredAt = 0;
  readonly #asked = new Map<number, Asked>();
  readonly #waiting = new Set<() => void>();
  /** By pid, until their end was reported. */
  readonly #running = new Map<number, Guarded>();
  /** Those of them whose guardian died. */
  readonly #stranded = new Set<Guarded>();
  #strandedTimer: NodeJS.Timeout | undefined;

  constructor(
    private readonly libc: Libc,
    private readonly line: StartsLine,
  ) {}

  /** A guardian watches, at the other end of `socket`, which this object closes. */
  attach(socket: number): void {
    this.#socket = socket;
    this.#guardians += 1;
    this.#wakeAll();
  }

  /** That guardian is gone, and all its output was read. */
  detach(socket: number): void {
    closeSync(socket);
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    for (const { settle, hasBegun } of this.#asked.values()) settle(hasBegun ? undefined : NOT_BEGUN);
    for (const guarded of this.#running.values()) this.#stranded.add(guarded);
    if (this.#stranded.size > 0) this.#strandedTimer ??= setInterval(() => this.#lookAfter(), STRANDED_MS);
  }

  /** Whether the guardian, or this process, waits for this child: no other code may reap it. */
  holds(pid: number): boolean {
    return this.#running.has(pid);
  }

  /** Settles when all starts, or all reaps, that are under way have been answered; undefined when there are none. */
  settled(kind: Asked['kind']): Promise<unknown> | undefined {
    const answers = [...this.#asked.values()].filter((asked) => asked.kind === kind);
    return answers.length === 0 ? undefined : Promise.all(answers.map(async ({ answer }) => answer));
  }

  /**
   * Starts a process. If a guardian dies before it has begun on the start, the next one gets it.
   * @throws NativeError as `posixSpawn`; BelayError SPAWN_FAILED, reason GUARDIAN, when the guardian dies or does not answer.
   */
  async start({ fds, ...plan }: SpawnPlan): Promise<GuardedProcess> {
    const encoded = encodeStart(plan);
    let asked = 0;
    for (let tries = 1; ; tries += 1) {
      const socket = await this.#turn(asked, encoded.order.bytes);
      asked = this.#guardians;
      try {
        return await this.#start(encoded, fds, socket);
      } catch (error) {
        if (!(error instanceof NotBegun)) throw error;
        if (tries === MOST_GUARDIANS) throw lost(error.cause);
      } finally {
        this.#starting -= 1;
        this.#bytes -= encoded.order.bytes;
        this.#wakeAll();
      }
    }
  }

  /** Reaps dead children of the guardian for which nobody waits any more. */
  reap(pids: readonly number[]): void {
    if (this.#socket === undefined || pids.length === 0) return;
    const id = (this.#requests += 1);
    void this.#ask('reap', { type: 'reap', id, pids });
  }

  /** Takes one line of the guardian. */
  heard(text: string): void {
    const [word = '', first, ...rest] = text.split(' ');
    // At once: the next line may report its end.
    if (word === 'spawned') this.#guard(Number(rest[0]));
    if (word === 'exit') return this.#running.get(Number(first))?.ended(exitOf(rest));
    this.#answeredAt = performance.now();
    const asked = this.#asked.get(Number(first));
    if (asked === undefined) return;
    if (word === 'begun') asked.hasBegun = true;
    else asked.settle([word, ...rest].join(' '));
  }

  /** Ends all starts; nobody waits for the processes any more. */
  close(): void {
    clearInterval(this.#strandedTimer);
    this.#running.clear();
    this.#stranded.clear();
    this.#hold();
  }

  /** @throws also NotBegun: then there is no process. */
  async #start(
    { order, strings }: EncodedStart,
    fds: readonly number[],
    socket: number,
  ): Promise<GuardedProcess> {
    const id = (this.#requests += 1);
    try {
      sendDescriptors(this.libc, socket, id, fds);
    } catch (error) {
      throw new NotBegun('its guardian is gone', { cause: error });
    }
    const answer = await this.#ask('start', { type: 'start', id, ...order }, strings);
    if (answer === NOT_BEGUN) throw new NotBegun('its guardian died before');
    // A process that it may have started belongs to no tree: AgentStarts has it ended as an unknown orphan.
    if (answer === undefined) throw lost();
    const [word, result = ''] = answer.split(' ');
    const guarded = this.#running.get(Number(result));
    if (word === 'failed' || guarded === undefined) throw new NativeError('posix_spawn', errnoOf(result));
    return guarded;
  }

  /** Resolves with the socket of a guardian that has room for one more start, and is newer than `asked`. */
  async #turn(asked: number, bytes: number): Promise<number> {
    const giveUpAt = performance.now() + ANSWER_MS;
    for (;;) {
      const socket = this.#guardians > asked ? this.#socket : undefined;
      const hasRoom = this.#starting < MOST_AT_ONCE && this.#bytes < MOST_BYTES;
      if (socket !== undefined && hasRoom) {
        this.#starting += 1;
        this.#bytes += bytes;
        return socket;
      }
      const leftMs = giveUpAt - performance.now();
      if (leftMs <= 0 && socket === undefined) throw lost();
      await this.#change(Math.max(leftMs, READ_FIRST_MS));
    }
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

  #ask(
    kind: Asked['kind'],
    message: GuardianMessage & { readonly id: number },
    strings?: Buffer,
  ): Promise<string | undefined> {
    const { id } = message;
    let settle: (answer: string | undefined) => void = () => undefined;
    const answer = new Promise<string | undefined>((resolve) => (settle = resolve));
    let timer: NodeJS.Timeout;
    const wait = (ms: number): void => {
      timer = setTimeout(() => (timer = setTimeout(judge, READ_FIRST_MS)), ms);
    };
    // A guardian that is busy with earlier requests does not hang.
    const judge = (): void => {
      const leftMs = this.#answeredAt + ANSWER_MS - performance.now();
      if (leftMs > 0) wait(leftMs);
      else this.line.stuck();
    };
    wait(ANSWER_MS);
    this.#asked.set(id, {
      kind,
      hasBegun: false,
      answer,
      settle: (text) => {
        clearTimeout(timer);
        this.#asked.delete(id);
        this.#hold();
        settle(text);
      },
    });
    this.#hold();
    this.line.tell(message, strings);
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

  /** @param onTold called when the listener knows of the end: from here on the number may be given away. */
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

/** The answer to a request that a guardian had not read when it died. */
const NOT_BEGUN = 'not-begun';

/** Another guardian may be asked for the same start. */
class NotBegun extends Error {}

function lost(cause?: unknown): Error {
  return failure(
    'GUARDIAN',
    'The agent was not started: its worker has no guardian, which would start it.',
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
