import { EXECUTION_MACHINE, isBelayError, isEnded, type ExecutionRecord } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { isTransient, type ChangeFeed } from '#libs/valkey';
import type { Subscription } from 'rxjs';

/** The time between a change and the look at it, so that many events of one execution cause one look. Milliseconds. */
const TICK_MS = 250;
/** A look at this interval, in case every hint is lost. Milliseconds. */
const LOOK_AGAIN_MS = 5_000;
const LOOKS_AT_ONCE = 50;

/** An execution that existed, and that the primary after a failover does not know. Nobody removed it. */
export class ExecutionLostError extends Error {
  constructor(readonly executionId: string) {
    super(`The execution ${executionId} was lost with the server that stored it.`);
  }
}

interface Follow {
  onChange(record: ExecutionRecord): void;
  resolve(record: ExecutionRecord): void;
  reject(error: unknown): void;
}

/** Watches many executions to their end. Events are hints, the record is the truth, and nothing is asked in between. */
export class ExecutionFollower {
  private readonly follows = new Map<string, Set<Follow>>();
  private readonly changed = new Set<string>();
  /** Executions that were not looked at since another server may have taken over. */
  private readonly unsure = new Set<string>();
  private readonly subscriptions: Subscription[] = [];
  private timers: NodeJS.Timeout[] = [];
  private looking = false;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly feed: ChangeFeed,
  ) {}

  start(): void {
    const all = (): void => this.follows.forEach((_, id) => this.changed.add(id));
    this.subscriptions.push(
      this.feed.events$.subscribe(({ executionId }) => {
        if (executionId !== undefined && this.follows.has(executionId)) this.changed.add(executionId);
      }),
      this.feed.renewed$.subscribe(all),
      this.lifecycle.valkey.renewed$.subscribe(() => {
        for (const id of this.follows.keys()) this.unsure.add(id);
        all();
      }),
    );
    this.timers = [setInterval(() => void this.look(), TICK_MS), setInterval(all, LOOK_AGAIN_MS)];
  }

  stop(): void {
    for (const timer of this.timers) clearInterval(timer);
    for (const subscription of this.subscriptions.splice(0)) subscription.unsubscribe();
  }

  /**
   * Resolves with the record of the ended execution; `onChange` gets every look before. An abort rejects with the signal's
   * reason. @throws NotFoundError when it was removed · ExecutionLostError when a failover lost it
   */
  async follow(
    executionId: string,
    onChange: (record: ExecutionRecord) => void,
    signal: AbortSignal,
  ): Promise<ExecutionRecord> {
    const follows = this.follows.get(executionId) ?? new Set();
    this.follows.set(executionId, follows);
    this.changed.add(executionId);
    let follow: Follow | undefined;
    const giveUp = (): void => follow?.reject(signal.reason);
    try {
      return await new Promise<ExecutionRecord>((resolve, reject) => {
        follow = { onChange, resolve, reject };
        follows.add(follow);
        if (signal.aborted) giveUp();
        else signal.addEventListener('abort', giveUp, { once: true });
      });
    } finally {
      signal.removeEventListener('abort', giveUp);
      if (follow !== undefined) follows.delete(follow);
      if (follows.size === 0) {
        this.follows.delete(executionId);
        this.unsure.delete(executionId);
      }
    }
  }

  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    const ids = [...this.changed].slice(0, LOOKS_AT_ONCE);
    for (const id of ids) this.changed.delete(id);
    await Promise.all(ids.map(async (id) => this.reconcile(id)));
    this.looking = false;
  }

  private async reconcile(id: string): Promise<void> {
    const follows = [...(this.follows.get(id) ?? [])];
    if (follows.length === 0) return;
    try {
      const record = await this.lifecycle.executions.get(id);
      this.unsure.delete(id);
      const ended = isEnded(EXECUTION_MACHINE, record.state);
      for (const follow of follows) {
        follow.onChange(record);
        if (ended) follow.resolve(record);
      }
    } catch (error) {
      // The server is away for a moment: the next round looks again.
      if (isTransient(error)) return;
      const isLost = isBelayError(error) && error.code === 'NOT_FOUND' && this.unsure.has(id);
      const fault = isLost ? new ExecutionLostError(id) : error;
      for (const follow of follows) follow.reject(fault);
    }
  }
}
