import { NotFoundError, ownPoolOf, type AgentRecord, type StopReport } from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';
import { EndedExecutions, reportFor, type Lease, type LifecycleService } from '#libs/lifecycle';
import { isCorrupt, ShardLock, type Held } from '#libs/valkey';
import type { AttemptEnds } from './attempt-ends';
import type { DagExecutor } from './dag-executor';
import { LeaseWatch } from './lease-watch';
import { recoveryRefusal } from './retry-policy';

/** One pass looks at this many of each kind. */
const BATCH = 100;

/** Another janitor takes over from a dead one after this long. Milliseconds. */
const TURN_MS = 3_000;

/** Between two counts of the running agents, for limits: they find slots that a failover lost. Milliseconds. */
const COUNT_MS = 15_000;

/** One pass wakes attempts that wait for limits for about this long, for example after the limits were lifted. Milliseconds. */
const WAKE_MS = 500;

export interface JanitorOptions {
  /** Milliseconds between two passes. */
  readonly intervalMs: number;
  readonly retentionMs: number;
  /** At most this many ended executions are kept; absent: any number. */
  readonly maxEnded?: number;
  readonly onError?: (error: unknown) => void;
}

/**
 * Finishes work that a crash left: executions with steps to do, attempts not handed over, deadlines passed, stops without an
 * order, workers whose lease ran out. One orchestrator at a time has the lock of a shard. Every act is a repeatable script all
 * the same, so two janitors do no harm.
 */
export class Janitor {
  private timer: NodeJS.Timeout | undefined;
  private stopped = true;
  /** The janitor must stop: each sweep under way ends after its step. */
  private stopping = false;
  /** The sweeps under way, by name. */
  private readonly under = new Map<string, Promise<void>>();
  /** The monotonic time of the last success of each sweep, by name. */
  private readonly passedAt = new Map<string, number>();
  private startedAt = performance.now();
  /** The locks: one orchestrator at a time sweeps a shard, and another takes over when it dies. */
  private readonly turns: ShardLock;
  private readonly leases = new LeaseWatch();
  /** The leases that had run out at the last look. */
  private ranOut: readonly Lease[] = [];
  private readonly ended: EndedExecutions;
  /** Where the next look at a shard's stopping executions begins. */
  private readonly stopsFrom = new Map<string, number>();
  /** The monotonic time of the last count of running agents. */
  private countedAt = -Infinity;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly queues: AgentQueues,
    private readonly dag: DagExecutor,
    private readonly ends: AttemptEnds,
    private readonly options: JanitorOptions,
  ) {
    this.turns = new ShardLock(lifecycle.valkey, 'janitor', TURN_MS);
    this.ended = new EndedExecutions(lifecycle.valkey, lifecycle.executions.room, options);
  }

  /** How long ago the sweep that has waited longest for a success had its last one, or the start. Milliseconds. */
  get sincePassMs(): number {
    const names = this.sweeps().map(({ name }) => name);
    return performance.now() - Math.min(...names.map((name) => this.passedAt.get(name) ?? this.startedAt));
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.passedAt.clear();
    this.startedAt = performance.now();
    this.schedule();
  }

  /** Resolves when the steps under way have ended. The next holder of a lock does the rest. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.stopping = true;
    clearTimeout(this.timer);
    await Promise.allSettled(this.under.values());
    this.stopping = false;
    await this.turns.giveBack().catch((error: unknown) => this.options.onError?.(error));
  }

  private schedule(): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      // A server that is away fails all sweeps alike.
      let isTold = false;
      for (const begun of this.begin())
        void begun.catch((error: unknown) => {
          if (!isTold) this.options.onError?.(error);
          isTold = true;
        });
      this.schedule();
    }, this.options.intervalMs);
  }

  /** Runs every sweep once. A sweep that is under way is waited for, and not begun again. */
  async sweep(): Promise<void> {
    const ends = [...this.under.values(), ...this.begin()];
    const failed = (await Promise.allSettled(ends)).find((one) => one.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** Begins each sweep that is not under way. A sweep that takes long delays none of the others. */
  private begin(): Promise<void>[] {
    return this.sweeps().flatMap(({ name, run }) => {
      if (this.under.has(name)) return [];
      const ran = run()
        .then(() => void this.passedAt.set(name, performance.now()))
        .finally(() => this.under.delete(name));
      this.under.set(name, ran);
      return [ran];
    });
  }

  /** The sweeps of one pass: the deadlines of a shard wait neither for its other work nor for another shard. */
  private sweeps(): { readonly name: string; readonly run: () => Promise<void> }[] {
    const { keys } = this.lifecycle.valkey;
    const ofShards = keys.tags().flatMap((tag) => {
      const held = this.heldOnce(tag);
      return [
        { name: `deadlines ${tag}`, run: async () => this.sweepDeadlines(tag, await held()) },
        { name: `shard ${tag}`, run: async () => this.sweepShard(tag, await held()) },
      ];
    });
    return [{ name: 'control', run: async () => this.sweepControl() }, ...ofShards];
  }

  /** What the quarantine holds of a shard, read once a pass; undefined where another process has the shard's lock. */
  private heldOnce(tag: string): () => Promise<Held | undefined> {
    let held: Promise<Held | undefined> | undefined;
    const read = async (): Promise<Held | undefined> =>
      (await this.isOurs(tag)) ? this.lifecycle.valkey.quarantine.held(tag) : undefined;
    return async () => (held ??= read());
  }

  private async sweepControl(): Promise<void> {
    const { keys, quarantine } = this.lifecycle.valkey;
    // In every pass, also while another process has the lock: then the next holder has seen the leases for as long.
    await this.guard(async () => this.lookAtLeases());
    if (!(await this.isOurs(keys.control))) return;
    await this.guard(async () => quarantine.held(keys.control));
    await this.guard(async () => this.loseWorkers());
    await this.guard(async () => this.ended.sweep());
    await this.guard(async () => this.sweepSlots());
  }

  private async sweepDeadlines(tag: string, held: Held | undefined): Promise<void> {
    if (held !== undefined) await this.guard(async () => this.enforceDeadlines(tag, held));
  }

  private async sweepShard(tag: string, held: Held | undefined): Promise<void> {
    if (held === undefined) return;
    const { keys, scripts } = this.lifecycle.valkey;
    await this.guard(async () => this.advance(tag, held));
    await this.guard(async () => this.orderStops(tag, held));
    await this.guard(async () => this.queues.sweep(tag, held));
    await this.guard(async () => this.lifecycle.questions.settleOverdue(tag));
    await this.guard(async () => this.expireSuspended(tag, held));
    const args = [tag, BATCH, this.options.retentionMs];
    await this.guard(async () => scripts.run('pruneShard', keys.shard(tag, 'expiry'), args));
  }

  /** Slots under limits: gives back unused slots, and counts running agents that have none. */
  private async sweepSlots(): Promise<void> {
    const { slots, agents } = this.lifecycle;
    await slots.copy();
    const { items } = await slots.limits();
    const isDue = items.length > 0 && performance.now() - this.countedAt >= COUNT_MS;
    if (isDue || (await slots.isCounting())) {
      await slots.count(async () => agents.liveEverywhere());
      this.countedAt = performance.now();
    }
    for await (const woken of slots.sweeps(WAKE_MS)) await this.queues.dispatch(woken);
  }

  private async lookAtLeases(): Promise<void> {
    this.ranOut = [];
    await this.lifecycle.valkey.observeClock();
    const askedAt = performance.now();
    this.ranOut = this.leases.look(await this.lifecycle.workers.leases(), askedAt);
  }

  private async isOurs(tag: string): Promise<boolean> {
    return !this.stopping && (await this.turns.take(tag)) !== undefined;
  }

  /**
   * One fault, such as an unreadable record, must not stop the rest of the pass
   * (docs/architecture.md#a-record-that-cannot-be-read).
   */
  private async guard(work: () => Promise<unknown>): Promise<void> {
    if (this.stopping) return;
    await work().catch((error: unknown) => {
      // The quarantine reports a corrupt record once, so the janitor does not.
      if (!(error instanceof NotFoundError) && !isCorrupt(error)) this.options.onError?.(error);
    });
  }

  /**
   * The oldest entries that are due. Entries of records in the quarantine are left out, and take no place in the batch. One
   * execution may have thousands of entries, so the number of such records does not bound theirs.
   */
  private async due(key: string, isHeld: (entry: string) => boolean): Promise<string[]> {
    const { valkey } = this.lifecycle;
    const now = await valkey.timeAt(key);
    const due: string[] = [];
    let offset = 0;
    // Each page is twice as long, since the server passes over all entries before a page.
    for (let most = BATCH; ; most *= 2) {
      const entries = await valkey.redis.zrangebyscore(key, '-inf', now, 'LIMIT', offset, most);
      due.push(...entries.filter((entry) => !isHeld(entry)));
      if (due.length >= BATCH || entries.length < most) return due.slice(0, BATCH);
      offset += most;
    }
  }

  private async enforceDeadlines(tag: string, held: Held): Promise<void> {
    const key = this.lifecycle.valkey.keys.shard(tag, 'deadlines');
    for (const id of await this.due(key, (one) => held.execution(one))) {
      await this.guard(async () => this.stopLate(id));
    }
  }

  /** Fails nodes whose signal did not come in time. */
  private async expireSuspended(tag: string, held: Held): Promise<void> {
    const { keys } = this.lifecycle.valkey;
    const isHeld = (place: string): boolean => {
      const [executionId, nodeId] = placeOf(place);
      return held.execution(executionId) || held.record(keys.execution(executionId, 'nodes'), nodeId);
    };
    for (const place of await this.due(keys.shard(tag, 'suspended'), isHeld)) {
      const [executionId, nodeId] = placeOf(place);
      await this.guard(async () => this.expireOne(executionId, nodeId));
    }
  }

  private async expireOne(executionId: string, nodeId: string): Promise<void> {
    const { entries, more, stopNeeded } = await this.lifecycle.executions.expireSuspended(
      executionId,
      nodeId,
    );
    if (stopNeeded) this.dag.requestStop({ executionId, reason: 'error', by: 'belay' });
    await this.dag.drive(executionId, entries, more);
  }

  /** The stopping script removes the deadline, so a stop that fails is repeated by the next pass. */
  private async stopLate(id: string): Promise<void> {
    const { already } = await this.lifecycle.executions.stop(id, {
      reason: 'timeout',
      actor: 'belay',
      isLate: true,
    });
    if (!already) this.dag.requestStop({ executionId: id, reason: 'timeout', by: 'belay' });
  }

  private async advance(tag: string, held: Held): Promise<void> {
    const key = this.lifecycle.valkey.keys.shard(tag, 'advancing');
    for (const id of await this.due(key, (one) => held.execution(one))) {
      await this.guard(async () => this.dag.drive(id));
    }
  }

  /**
   * Executions that stop while agents of them live: the killswitch places an order where no open one reaches those agents. Each
   * pass goes on where the one before ended, since the oldest may stop for as long as their grace.
   */
  private async orderStops(tag: string, held: Held): Promise<void> {
    const { redis, keys } = this.lifecycle.valkey;
    const from = this.stopsFrom.get(tag) ?? 0;
    const ids = await redis.zrange(keys.executionsIn(tag, 'stopping'), from, String(from + BATCH - 1));
    this.stopsFrom.set(tag, ids.length < BATCH ? 0 : from + BATCH);
    for (const id of ids)
      if (!held.execution(id) && !held.record(keys.execution(id)))
        await this.guard(async () => this.orderStop(id));
  }

  private async orderStop(id: string): Promise<void> {
    const { redis, keys, quarantine } = this.lifecycle.valkey;
    const key = keys.execution(id);
    const [live, reason] = await quarantine.reading(key, async () => redis.hmget(key, 'live', 'reason'));
    if (Number(live) > 0)
      this.dag.requestStop({ executionId: id, reason: (reason ?? 'error') as 'error', by: 'belay' });
  }

  /**
   * The agents of a worker are failed only after its lease has run out and it can no longer renew it
   * (docs/architecture.md#leases-and-fencing).
   */
  private async loseWorkers(): Promise<void> {
    const { workers } = this.lifecycle;
    for (const lease of this.ranOut) await this.guard(async () => workers.expire(lease));
    for (const id of await workers.lost()) await this.guard(async () => this.loseWorker(id));
    await this.proveLost();
  }

  /** A worker is forgotten once all of its agents are ended. A worker whose record cannot be read waits for its mending. */
  private async loseWorker(id: string): Promise<void> {
    const { workers, agents } = this.lifecycle;
    await agents.banOwner(id);
    const proof = await workers.proof(id);
    // A worker that was lost before its first heartbeat was last heard of when it registered.
    const { createdAt, lastHeartbeatAt = createdAt } = await this.knownOf(id);
    const heardAt = lastHeartbeatAt ?? this.lifecycle.valkey.clock.now();
    for (const agent of await agents.ownedBy(id))
      if (agent.unreadable !== true)
        await this.guard(async () => this.loseAgent(agent, { id, heardAt, proof: reportFor(proof, agent) }));
    if ((await agents.ownedBy(id)).length > 0) return;
    await this.queues.forget(ownPoolOf(id));
    await workers.forgetLost(id);
  }

  /** The worker's own record may be unreadable: its agents are lost all the same. */
  private async knownOf(id: string): Promise<{ createdAt?: number; lastHeartbeatAt?: number }> {
    try {
      return await this.lifecycle.workers.get(id);
    } catch (error) {
      if (isCorrupt(error)) return {};
      throw error;
    }
  }

  private async loseAgent(
    agent: AgentRecord,
    { id, heardAt, proof }: { id: string; heardAt: number; proof: StopReport | undefined },
  ): Promise<void> {
    const awayMs = Math.max(0, this.lifecycle.valkey.clock.now() - heardAt);
    const lost = `Worker ${id} stopped renewing its lease`;
    await this.ends.endOf({ ...agent, owner: id }, (spec) => {
      const refusal = recoveryRefusal(spec, awayMs);
      return {
        mayRetry: refusal === undefined,
        outcome: {
          state: 'failed',
          reason: 'worker_lost',
          error:
            refusal === undefined
              ? { code: 'WORKER_LOST', message: `${lost}.` }
              : { code: refusal.code, message: `${lost}; ${refusal.message}.` },
          // A lease that ran out says nothing about the processes. The guardian or a reaper may have seen them dead.
          ...(proof === undefined ? { lost: true } : { report: proof }),
        },
      };
    });
  }

  /** Attempts that nobody could prove dead, and whose worker's end was seen since. */
  private async proveLost(): Promise<void> {
    const { workers, agents } = this.lifecycle;
    const unproved = await agents.unproved();
    for (const owner of new Set(unproved.map((agent) => agent.owner))) {
      const proof = await workers.proof(owner);
      for (const agent of unproved) {
        const report = agent.owner === owner ? reportFor(proof, agent) : undefined;
        if (report !== undefined) await agents.prove(agent.id, owner, report);
      }
    }
  }
}

/** The execution and the node of a place in the list of suspended nodes. */
function placeOf(place: string): [executionId: string, nodeId: string] {
  const [executionId = '', nodeId = ''] = place.split('\t');
  return [executionId, nodeId];
}
