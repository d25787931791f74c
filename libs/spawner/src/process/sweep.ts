import { COOKIE_VARIABLE } from '#libs/contracts';
import { readMark } from './limit-mark';
import { isForbidden } from './read-kernel-file';
import { isRunning, listPids, newestPid, readEnvironment, readStat, type ProcStat } from './proc-stat';

/** Marks every process of one agent; its value is 128 random bits. */
export { COOKIE_VARIABLE };
/** Marks every process of one worker, for the guardian and for reaping. */
export const WORKER_COOKIE_VARIABLE = 'BELAY_WORKER_COOKIE';

/** A running process as one pass saw it. */
export interface SweptProcess extends ProcStat {
  /** The values of the cookie variable in the environment with which it was started, and the mark of its limits. */
  readonly cookies: readonly string[];
}

/** One pass over /proc, or over a part of it. */
export interface Sweep {
  /**
   * Whether a tree that lived all through the pass was seen. A process may fork and end after it was listed and before it was
   * read. Its child has a higher number, so new numbers are listed and read until none of them ends unread. False when that did
   * not end, or when the kernel wrapped around to low numbers: such a pass proves nothing.
   */
  readonly sound: boolean;
  readonly byPid: ReadonlyMap<number, SweptProcess>;
  readonly byCookie: ReadonlyMap<string, readonly SweptProcess[]>;
  readonly bySession: ReadonlyMap<number, readonly SweptProcess[]>;
  readonly children: ReadonlyMap<number, readonly SweptProcess[]>;
}

/** One piece of a pass blocks the event loop for at most this long, milliseconds. */
const SLICE_MS = 4;
/** How often one pass lists again because a process ended before it was read. */
const MOST_LISTINGS = 25;

/**
 * Looks at every process, for all callers that wait: one pass serves all calls before its start, so the stop of a thousand
 * agents at once costs a few passes and not a thousand.
 */
export class Sweeper {
  /** A pass that has not begun. Callers until then share it. */
  #waiting: Promise<Sweep> | undefined;
  /** Settles when the pass under way ends; that pass may have passed the caller's processes already. */
  #active: Promise<unknown> | undefined;
  /** The processes of the last pass: the tree of each was decided when it was forked. */
  #known: ReadonlyMap<number, SweptProcess> = new Map();
  /** Duration of the last pass and how many there were, for tests and for pacing. */
  lastPassMs = 0;
  passes = 0;

  /**
   * @param onSweep gets every pass before its callers do.
   * @param list the processes to look at. Default: all.
   * @param startsBare whether children of this process get their cookie and mark only after their birth. Default: children of
   *   this process.
   */
  constructor(
    private readonly variable: string = COOKIE_VARIABLE,
    private readonly onSweep: (sweep: Sweep) => void = () => {},
    private readonly list: () => Iterable<number> = listPids,
    private readonly startsBare: (parent: number) => boolean = (parent) => parent === process.pid,
  ) {}

  /** The result of a pass that begins after this call. */
  sweep(): Promise<Sweep> {
    this.#waiting ??= this.#begin();
    return this.#waiting;
  }

  async #begin(): Promise<Sweep> {
    await this.#active;
    await nextTurn(); // so that all callers of this turn of the event loop share the pass
    this.#waiting = undefined;
    const pass = this.#pass();
    this.#active = pass.then(
      () => undefined,
      () => undefined,
    );
    return pass;
  }

  async #pass(): Promise<Sweep> {
    const sweep = new SweepBuilder(this.variable, this.#known, this.startsBare);
    const startedAt = performance.now();
    const newest = newestPid();
    const listed = new Set<number>();
    let sliceStart = startedAt;
    let unread = true;
    for (let listings = 0; unread && listings < MOST_LISTINGS; listings++) {
      unread = false;
      for (const pid of this.list()) {
        if (listed.has(pid)) continue;
        listed.add(pid);
        if (performance.now() - sliceStart > SLICE_MS) {
          await nextTurn();
          sliceStart = performance.now();
        }
        if (!sweep.add(pid)) unread = true;
      }
    }
    sweep.sound = !unread && newestPid() >= newest;
    this.#known = sweep.byPid;
    this.lastPassMs = performance.now() - startedAt;
    this.passes += 1;
    this.onSweep(sweep);
    return sweep;
  }
}

class SweepBuilder implements Sweep {
  sound = false;
  readonly byPid = new Map<number, SweptProcess>();
  readonly byCookie = new Map<string, SweptProcess[]>();
  readonly bySession = new Map<number, SweptProcess[]>();
  readonly children = new Map<number, SweptProcess[]>();

  constructor(
    private readonly variable: string,
    private readonly known: ReadonlyMap<number, SweptProcess>,
    private readonly startsBare: (parent: number) => boolean,
  ) {}

  /** False: the process ended before it was known to which tree it belongs. */
  add(pid: number): boolean {
    // No agent's: init, this process, kernel threads (children of kthreadd, without a session).
    if (pid === 1 || pid === process.pid || pid === 2) return true;
    const stat = statOf(pid);
    // /proc hides it (hidepid), like others that it does not even list: one such process must not fail every pass.
    if (stat === 'hidden') return true;
    if (stat === undefined) return false;
    if (stat.parent === 2) return true;
    if (!isRunning(stat)) return false;
    const seen: SweptProcess = { ...stat, cookies: this.cookiesOf(stat) };
    // No marks were read: the process may have ended between the two reads.
    if (seen.cookies.length === 0 && isOver(seen)) return false;
    this.byPid.set(pid, seen);
    for (const cookie of seen.cookies) if (cookie !== '') push(this.byCookie, cookie, seen);
    if (seen.session > 0) push(this.bySession, seen.session, seen);
    push(this.children, seen.parent, seen);
    return true;
  }

  /**
   * Read once for each process: a process gets cookie and mark by fork from a parent that has them, and one that had them stays
   * ours, whatever happens to its environment. Only processes that this one or the guardian starts are born without, and get
   * both before they run.
   */
  private cookiesOf({ pid, startTime, parent }: ProcStat): readonly string[] {
    const known = this.known.get(pid);
    if (known?.startTime === startTime && !this.startsBare(known.parent) && !this.startsBare(parent))
      return known.cookies;
    const whose = this.variable === WORKER_COOKIE_VARIABLE ? 'worker' : 'agent';
    return [...readEnvironment(pid, this.variable), ...readMark(pid, whose)];
  }
}

function statOf(pid: number): ProcStat | 'hidden' | undefined {
  try {
    return readStat(pid);
  } catch (error) {
    if (isForbidden(error)) return 'hidden';
    throw error;
  }
}

function isOver({ pid, startTime }: ProcStat): boolean {
  const now = statOf(pid);
  return now !== 'hidden' && (now === undefined || now.startTime !== startTime || !isRunning(now));
}

function push<K>(map: Map<K, SweptProcess[]>, key: K, value: SweptProcess): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
