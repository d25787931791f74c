import {
  conditionsOf,
  parseAgentId,
  type Latch,
  type PoolCounts,
  type QueueDetail,
  type QueuePaused,
  type QueueRecord,
  type QueueRemoval,
  type RemoveRequest,
  type Requirement,
  type Signature,
} from '#libs/contracts';
import type { AgentQueues } from '#libs/dispatch';
import type { DagExecutor } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import { isCorrupt } from '#libs/valkey';
import { ulid } from 'ulid';
import type { AuditStore } from './audit-store';
import type { BestEffort } from './best-effort';
import type { KillswitchService } from './killswitch.service';

/** Attempts removed by one call. */
const MOST_REMOVED = 5_000;
/** Attempts looked at together. */
const BATCH = 100;

/** The progress of a removal, attempt by attempt. */
interface Removal {
  readonly pool: string;
  readonly requires?: readonly Requirement[];
  readonly actor: string;
  readonly note: string;
  readonly isDry: boolean;
  removed: number;
  readonly touched: Map<string, { stopNeeded: boolean }>;
}

/**
 * The queues of pools (docs/cli.md#belay-queues): counts, pause, resume, removal of waiting attempts. A pause is a latch of the
 * kind `pause`: durable, copied to every shard, read by the claim script. BullMQ's own pause is not used: it delays jobs, but a
 * job does not decide whether an attempt starts.
 */
export class PoolQueues {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly killswitch: KillswitchService,
    private readonly queues: AgentQueues,
    private readonly dag: DagExecutor,
    private readonly audit: AuditStore,
    private readonly each: BestEffort,
  ) {}

  /** Every pool that has attempts, has a worker, or is paused; by name. */
  async list(): Promise<QueueRecord[]> {
    const [counts, workers, latches] = await Promise.all([
      this.lifecycle.pools.counts(),
      this.lifecycle.workers.list(),
      this.killswitch.latches.list(),
    ]);
    const served = workers.filter(({ state }) => state === 'running').flatMap(({ pools }) => pools);
    const paused = latches.flatMap((latch) => poolOf(latch) ?? []);
    const names = new Set([...counts.map(({ pool }) => pool), ...served, ...paused]);
    return [...names]
      .filter((pool) => !pool.startsWith('@'))
      .sort()
      .map((pool) => {
        const counted = counts.find((one) => one.pool === pool);
        return describe(counted ?? idle(pool), served.filter((name) => name === pool).length, latches);
      });
  }

  /** One queue. The pool need not be known: it may be paused before its first worker starts. */
  async get(pool: string): Promise<QueueDetail> {
    const [queues, bullmq] = await Promise.all([this.list(), this.queues.counts(pool)]);
    return { ...(queues.find((queue) => queue.pool === pool) ?? describe(idle(pool), 0, [])), bullmq };
  }

  /**
   * From here on no attempt of the pool is claimed; running agents go on. Warns of a pool that nothing uses. Repeatable.
   * @throws BelayError TOO_MANY_LATCHES
   */
  async pause(pool: string, said: Signature & { readonly note?: string }): Promise<QueuePaused> {
    const { already } = await this.killswitch.latches.pause(pool, said);
    const warning = await this.killswitch.warningOf({ type: 'pool', pool });
    return { queue: await this.recordOf(pool), already, ...(warning === undefined ? {} : { warning }) };
  }

  /** Waiting attempts may be claimed again, unless a latch or a freeze covers them too. Repeatable. */
  async resume(pool: string, said: Signature & { readonly note?: string }): Promise<QueuePaused> {
    const { note = 'resumed' } = said;
    const pause = await this.killswitch.latches.pauseOf(pool);
    if (pause !== undefined) await this.killswitch.holds.release(pause.id, { ...said, note });
    return { queue: await this.recordOf(pool), already: pause === undefined };
  }

  private async recordOf(pool: string): Promise<QueueRecord> {
    return (await this.list()).find((queue) => queue.pool === pool) ?? describe(idle(pool), 0, []);
  }

  /**
   * Removes the waiting attempts of a pool: each attempt's node is cancelled with the error REMOVED, and its execution ends as
   * after the kill of an agent. At most 5,000 attempts a call. Repeatable. The audit log gets an entry before the first
   * removal, and one after.
   */
  async remove(
    pool: string,
    { selector, note }: RemoveRequest,
    { isDry, ...said }: Signature & { readonly isDry: boolean },
  ): Promise<QueueRemoval> {
    const removal: Removal = {
      pool,
      ...(selector === undefined ? {} : { requires: conditionsOf(selector) }),
      actor: said.by,
      note,
      isDry,
      removed: 0,
      touched: new Map(),
    };
    const id = ulid();
    const entry = { ...said, note, pool, ...(selector === undefined ? {} : { selector }) };
    if (!isDry) await this.audit.record(`${id}:begun`, { act: 'queue.removing', ...entry });
    let more = false;
    try {
      for (const tag of this.lifecycle.valkey.keys.tags()) more = (await this.removeOf(tag, removal)) || more;
    } finally {
      const { removed } = removal;
      if (!isDry) await this.audit.record(id, { act: 'queue.removed', ...entry, removed });
    }
    await this.settle(removal);
    return { removed: removal.removed, more };
  }

  /** True: more attempts wait than this call may remove. */
  private async removeOf(tag: string, removal: Removal): Promise<boolean> {
    const { pools } = this.lifecycle;
    for (let kept = 0; ;) {
      if (removal.removed >= MOST_REMOVED) return true;
      const ids = await pools.waiting(tag, removal.pool, kept, BATCH);
      if (ids.length === 0) return false;
      const outcomes = await Promise.all(ids.map(async (agentId) => this.removeOne(agentId, removal)));
      const gone = outcomes.filter(Boolean).length;
      // A dry run leaves all of them in place.
      kept += removal.isDry ? ids.length : ids.length - gone;
      removal.removed += gone;
    }
  }

  private async removeOne(agentId: string, removal: Removal): Promise<boolean> {
    const { pool, touched, isDry } = removal;
    const { removed, stopNeeded } = await this.lifecycle.pools
      .remove(agentId, pool, removal)
      .catch((error: unknown) => {
        // An unreadable record is listed in the quarantine, and keeps no other attempt from being removed.
        if (isCorrupt(error)) return { removed: false, stopNeeded: false };
        throw error;
      });
    if (!removed || isDry) return removed;
    const { executionId = '' } = parseAgentId(agentId) ?? {};
    touched.set(executionId, { stopNeeded: stopNeeded || touched.get(executionId)?.stopNeeded === true });
    await this.queues.drop([[agentId, pool]]);
    return true;
  }

  /** Stops and advances the executions of removed attempts. The janitor repeats what fails here. */
  private async settle({ touched }: Removal): Promise<void> {
    await this.each([...touched], async ([executionId, { stopNeeded }]) => {
      if (stopNeeded) this.dag.requestStop({ executionId, reason: 'user_abort', by: 'belay' });
      await this.dag.drive(executionId);
    });
  }
}

const idle = (pool: string): PoolCounts => ({ pool, waiting: 0, delayed: 0, active: 0 });

/** The pool whose queue a latch pauses. */
function poolOf({ kind, scope }: Latch): string | undefined {
  return kind === 'pause' && scope.type === 'pool' ? scope.pool : undefined;
}

function describe(counts: PoolCounts, workers: number, latches: readonly Latch[]): QueueRecord {
  const { pool } = counts;
  const pause = latches.find((latch) => poolOf(latch) === pool);
  const covering = latches.filter(
    ({ kind, scope }) =>
      kind !== 'pause' && (scope.type === 'all' || (scope.type === 'pool' && scope.pool === pool)),
  );
  return {
    ...counts,
    workers,
    ...(pause === undefined
      ? {}
      : {
          pause: {
            latchId: pause.id,
            by: pause.by,
            since: pause.engagedAt,
            ...(pause.note === undefined ? {} : { note: pause.note }),
          },
        }),
    latches: covering.map(({ id }) => id),
  };
}
