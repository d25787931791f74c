import { setTimeout as delay } from 'node:timers/promises';
import { shardOf, type BelayEvent } from '#libs/contracts';
import { NO_CHANGE, type Change, type LifecycleService } from '#libs/lifecycle';
import { isTransient, type ChangeFeed } from '#libs/valkey';
import { merge, type Subscription } from 'rxjs';
import { isAfter, reading } from './execution-events';

/** The reader takes this many changes of a shard at a time. */
const READ = 256;
/** The latest changes of a shard that are kept here for all clients. */
const KEPT = 1_000;
/** A client gets this many changes of a shard at a time. */
const BATCH = 64;
/** After a read the reader waits this long, so that many changes are one read. Milliseconds. */
const COALESCE_MS = 20;
/** The reader looks by itself at this interval, in case every hint is lost. Milliseconds. */
const LOOK_AGAIN_MS = 1_000;
/** The contents of this many events, and the labels of this many executions, are kept for the next client. */
const MOST_CONTENTS = 64;
const MOST_LABELS = 10_000;

type Labels = Readonly<Record<string, string>>;

/** Changes after a position. */
export interface ChangeBatch {
  readonly changes: readonly Change[];
  /** Changes are missing before these: retention removed them, or a failover lost them. */
  readonly missing?: 'retention' | 'failover';
  /** The position from which to go on where changes are missing. */
  readonly position: string;
}

/** The tail of one shard's list. */
interface Tail {
  readonly tag: string;
  /** The changes after `from`, up to `last`. */
  readonly kept: Change[];
  from: string;
  last: string;
  isBehind: boolean;
  /** The server may have lost changes that were read. */
  isDoubted: boolean;
}

/**
 * The changes of all executions, read once for all clients of this process, and only while there are any. A client asks for the
 * changes after its own position, as fast as it reads: it costs no memory while it does not. The reader keeps the latest
 * changes; a client that is further behind reads from the server.
 */
export class FleetEvents {
  private reader: Reader | undefined;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly feed: ChangeFeed,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Joins a client. The reader has begun when this resolves; it ends with its last client. */
  async join(): Promise<FleetView> {
    const reader = (this.reader ??= new Reader(this.lifecycle, this.feed, this.onError));
    reader.clients++;
    let isOver = false;
    const leave = (): void => {
      if (isOver) return;
      isOver = true;
      if (--reader.clients > 0) return;
      this.forget(reader);
      reader.stop();
    };
    try {
      await reader.standing;
      return { reader, leave };
    } catch (error) {
      // The next client begins another reader, even while others still wait for this one.
      this.forget(reader);
      leave();
      throw error;
    }
  }

  private forget(reader: Reader): void {
    if (this.reader === reader) this.reader = undefined;
  }

  /** Whether any client is there. */
  get isReading(): boolean {
    return this.reader !== undefined;
  }
}

/** One client's access to the changes. */
export interface FleetView {
  readonly reader: Reader;
  readonly leave: () => void;
}

/** Follows the lists of all shards. */
export class Reader {
  private readonly tails: readonly Tail[];
  private readonly hints: Subscription;
  private readonly timer: NodeJS.Timeout;
  private readonly waiting = new Set<() => void>();
  private readonly contents = new Map<string, Promise<BelayEvent | 'trimmed' | undefined>>();
  private readonly labels = new Map<string, Promise<Labels | undefined>>();
  private isAtWork = false;
  private isOver = false;
  clients = 0;
  /** Counts the looks that found changes. */
  version = 0;
  /** Resolves when the position of every shard is known. */
  readonly standing: Promise<void>;

  constructor(
    private readonly lifecycle: LifecycleService,
    feed: ChangeFeed,
    private readonly onError: (error: unknown) => void,
  ) {
    const { keys, renewed$ } = lifecycle.valkey;
    this.tails = keys.tags().map((tag) => ({
      tag,
      kept: [],
      from: NO_CHANGE,
      last: NO_CHANGE,
      isBehind: true,
      isDoubted: false,
    }));
    this.standing = this.begin();
    this.hints = feed.events$.subscribe(({ executionId }) => {
      const tail = executionId === undefined ? undefined : this.tails[shardOf(executionId, keys.shards)];
      if (tail === undefined) return;
      tail.isBehind = true;
      this.wake();
    });
    this.hints.add(merge(renewed$, feed.renewed$).subscribe(() => this.lookEverywhere(true)));
    this.timer = setInterval(() => this.lookEverywhere(false), LOOK_AGAIN_MS);
  }

  /** The newest position of each shard. */
  get heads(): string[] {
    return this.tails.map(({ last }) => last);
  }

  /** Ends the reader, and every wait. */
  stop(): void {
    this.isOver = true;
    clearInterval(this.timer);
    this.hints.unsubscribe();
    this.told();
  }

  /** Changes of a shard after a position: from here where they are kept, else from the server. */
  async after(shard: number, position: string): Promise<ChangeBatch> {
    const { tag, from, last, kept } = this.tails[shard] as Tail;
    const { changes } = this.lifecycle;
    if (position === last) return { changes: [], position };
    if (isAfter(position, last)) {
      // Another orchestrator may have read more than this one has so far. Otherwise the server has lost changes.
      const newest = (await changes.kept(tag))?.last ?? NO_CHANGE;
      if (!isAfter(position, newest)) return { changes: [], position };
      return { changes: [], missing: 'failover', position: newest };
    }
    if (!isAfter(from, position)) {
      // From the end: most clients have all but the latest changes.
      let at = kept.length;
      while (at > 0 && isAfter((kept[at - 1] as Change).id, position)) at--;
      return { changes: kept.slice(at, at + BATCH), position };
    }
    return reading.run(async () => {
      const found = await changes.after(tag, position, BATCH);
      // After the read: it cannot have lost changes without this look knowing.
      const bounds = await changes.kept(tag);
      const isGap = bounds?.isTrimmed === true && isAfter(bounds.first, position);
      return { changes: found, position, ...(isGap ? { missing: 'retention' } : {}) };
    });
  }

  /** The event of a change. `trimmed`: its execution keeps it no longer. Undefined once the execution was removed. */
  async content(change: Change): Promise<BelayEvent | 'trimmed' | undefined> {
    const key = `${change.executionId} ${change.eventId}`;
    return keeping(this.contents, key, MOST_CONTENTS, async () => this.lifecycle.changes.event(change));
  }

  /** The labels of an execution; undefined once it was removed. */
  async labelsOf(executionId: string): Promise<Labels | undefined> {
    return keeping(this.labels, executionId, MOST_LABELS, async () =>
      this.lifecycle.changes.labels(executionId),
    );
  }

  /** Resolves once there are changes that the given version did not have, or the signal is aborted. */
  async moved(since: number, signal: AbortSignal): Promise<void> {
    if (this.version !== since || signal.aborted || this.isOver) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        this.waiting.delete(go);
        signal.removeEventListener('abort', go);
        resolve();
      };
      this.waiting.add(go);
      signal.addEventListener('abort', go);
    });
  }

  private async begin(): Promise<void> {
    await Promise.all(
      this.tails.map(async (tail) => {
        tail.from = tail.last = (await this.lifecycle.changes.kept(tail.tag))?.last ?? NO_CHANGE;
      }),
    );
  }

  private lookEverywhere(isDoubted: boolean): void {
    for (const tail of this.tails) {
      tail.isBehind = true;
      tail.isDoubted ||= isDoubted;
    }
    this.wake();
  }

  private wake(): void {
    if (this.isAtWork || this.isOver) return;
    this.isAtWork = true;
    this.work()
      .catch((error: unknown) => {
        // The server is away for a moment: the timer looks again.
        if (!this.isOver && !isTransient(error)) this.onError(error);
      })
      .finally(() => (this.isAtWork = false));
  }

  private async work(): Promise<void> {
    await this.standing;
    while (!this.isOver && this.tails.some(({ isBehind }) => isBehind)) {
      const behind = this.tails.filter(({ isBehind }) => isBehind);
      // All have ended before the next look: two reads of one shard would take the same changes twice.
      const reads = await Promise.allSettled(behind.map(async (tail) => this.read(tail)));
      const failed = reads.find((one) => one.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      await delay(COALESCE_MS, undefined, { ref: false });
    }
  }

  private async read(tail: Tail): Promise<void> {
    const { changes } = this.lifecycle;
    tail.isBehind = false;
    if (tail.isDoubted) await this.check(tail);
    const found = await changes.after(tail.tag, tail.last, READ);
    const [first, newest] = [found[0], found.at(-1)];
    if (first === undefined || newest === undefined) return;
    let fresh = found;
    if (found.length === READ) {
      tail.isBehind = true;
      const bounds = await changes.kept(tail.tag);
      if (bounds?.isTrimmed === true && isAfter(bounds.first, tail.last)) {
        // The list went on faster than it was read. A client at the old position learns that from the server.
        tail.kept.length = 0;
        tail.from = first.id;
        fresh = found.slice(1);
      }
    }
    tail.kept.push(...fresh);
    const gone = tail.kept.splice(0, Math.max(0, tail.kept.length - KEPT));
    tail.from = gone.at(-1)?.id ?? tail.from;
    tail.last = newest.id;
    this.told();
  }

  /** After a failover the server's list may end before the position that was read. */
  private async check(tail: Tail): Promise<void> {
    const newest = (await this.lifecycle.changes.kept(tail.tag))?.last ?? NO_CHANGE;
    tail.isDoubted = false;
    if (!isAfter(tail.last, newest)) return;
    tail.kept.length = 0;
    tail.from = tail.last = newest;
    this.told();
  }

  private told(): void {
    this.version++;
    for (const go of this.waiting) go();
  }
}

/** A kept answer, or a new one. One that fails, or that finds nothing, is not kept. */
function keeping<T>(
  kept: Map<string, Promise<T | undefined>>,
  key: string,
  most: number,
  make: () => Promise<T | undefined>,
): Promise<T | undefined> {
  const found = kept.get(key);
  if (found !== undefined) return found;
  const made = make();
  kept.set(key, made);
  const drop = (): void => {
    if (kept.get(key) === made) kept.delete(key);
  };
  made.then((value) => value === undefined && drop(), drop);
  for (const oldest of kept.keys()) {
    if (kept.size <= most) break;
    kept.delete(oldest);
  }
  return made;
}
