import { BelayError, NotFoundError, type ExecutionState, type Signature } from '#libs/contracts';
import { parseStored, type ScriptReply, type Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import { textOf } from './decode';

/**
 * Longer than an order takes to name its targets and to learn of their ends. While an order is open, an execution that ended within
 * this time stays, since the receipt may need its record. Milliseconds.
 */
export const MIN_AGE_MS = 60_000;
/** A removal that is unfinished after this time was left by its caller: longer than a call is repeated. Milliseconds. */
const LEFT_MS = 60_000;
/** One call reads or removes this many at a time. */
const PAGE = 100;
/** One look reads about this many unfinished removals of a shard. */
const LOOKED_AT = 100;

/** An execution that is gone, and whose agents' logs may still have to be removed. */
export interface Removal {
  readonly id: string;
  readonly executionId: string;
  /** By the clock of the shard's server. */
  readonly at: number;
  /** Its last state; absent when its record had expired. */
  readonly state?: ExecutionState;
  /** Who deleted it; absent for retention. */
  readonly said?: Signature;
}

/**
 * Removes ended executions, for retention and for people. One script decides, and removes the records. The logs of the
 * agents, which may be many, are removed after it, page by page. A removal stays listed until that is done, so a crash
 * leaves nothing behind.
 */
export class Removals {
  constructor(private readonly valkey: Valkey) {}

  /**
   * Deletes an execution for a person. It is gone when this resolves; the caller then writes the audit log, and calls
   * `finish`. Repeatable by `id`.
   * @throws NotFoundError · BelayError NOT_ENDED · NOT_PROVED while an attempt was not seen dead · ORDER_OPEN while a
   *   receipt may need the record
   */
  async begin(
    executionId: string,
    said: Signature,
    id: string = ulid(),
  ): Promise<Removal & Required<Pick<Removal, 'state'>>> {
    const needed = await this.neededForMs(executionId);
    if (needed > 0) throw orderOpen(executionId, needed);
    const order = await this.neededBy(executionId);
    if (order !== undefined) throw orderMisses(executionId, order);
    const reply = await this.run(executionId, [id, JSON.stringify(said)]);
    const { at, state } = accepted(reply, executionId);
    return { id, executionId, at, state, said };
  }

  /** Removes an execution for retention, with its logs. False: it stays. */
  async retire(executionId: string): Promise<boolean> {
    const reply = await this.run(executionId, [ulid()]);
    if (reply.refused !== undefined) return false;
    await this.finish({ executionId });
    return true;
  }

  /** For how long an open order may still need the record of an execution that has ended. Milliseconds; none where it is not positive. */
  private async neededForMs(executionId: string): Promise<number> {
    const { redis, keys } = this.valkey;
    if ((await redis.scard(keys.shard(keys.control, 'orders:open'))) === 0) return 0;
    // The clock is an estimate of the server's, and may be a moment behind the record.
    return Math.min(MIN_AGE_MS, MIN_AGE_MS - (await this.ageOf(executionId)));
  }

  /**
   * The open order whose receipt misses the end of one of the execution's agents, however long ago that was: the report was lost,
   * and a sweep finds the end in the agent's record.
   */
  async neededBy(executionId: string): Promise<string | undefined> {
    const { redis, keys } = this.valkey;
    const open = await redis.smembers(keys.shard(keys.control, 'orders:open'));
    const missing = await Promise.all(open.map(async (id) => redis.scard(keys.orderMissing(id))));
    const orders = open.filter((_, i) => missing[i] !== 0);
    if (orders.length === 0) return undefined;
    let cursor = '0';
    do {
      const [next, rows] = await redis.hscan(keys.execution(executionId, 'agents'), cursor, 'COUNT', PAGE);
      cursor = next;
      const agents = rows.filter((_, i) => i % 2 === 0);
      if (agents.length === 0) continue;
      for (const id of orders)
        if ((await redis.smismember(keys.orderMissing(id), ...agents)).includes(1)) return id;
    } while (cursor !== '0');
    return undefined;
  }

  /** The time since the execution's end, by the server's clock; an execution without a stored end counts as old. Milliseconds. */
  async ageOf(executionId: string): Promise<number> {
    const { redis, keys, clock } = this.valkey;
    const times = await redis.hmget(keys.execution(executionId), 'completedAt', 'stoppedAt');
    return clock.now() - Math.max(...times.map(Number));
  }

  /** Removes the logs of the agents of a removed execution, then forgets the removal. Repeatable. */
  async finish({ executionId }: Pick<Removal, 'executionId'>): Promise<void> {
    const { redis, keys } = this.valkey;
    const tag = keys.tagOf(executionId);
    const list = keys.execution(executionId, 'removed');
    let cursor = '0';
    do {
      const [next, rows] = await redis.hscan(list, cursor, 'COUNT', PAGE);
      cursor = next;
      const agents = rows.filter((_, i) => i % 2 === 0);
      if (agents.length === 0) continue;
      await redis.unlink(
        ...agents.flatMap((agentId) => [
          keys.agentLog(executionId, agentId),
          keys.agentLogFile(executionId, agentId),
        ]),
      );
      await redis.zrem(keys.endedAgents(tag), ...agents);
    } while (cursor !== '0');
    await redis.unlink(list);
    await redis.hdel(keys.shard(tag, 'removals'), executionId);
  }

  /** Removals that a process left unfinished, some of each shard; the next look has the others. */
  async left(olderThanMs = LEFT_MS): Promise<Removal[]> {
    const { redis, keys } = this.valkey;
    const lists = await Promise.all(
      keys.tags().map(async (tag) => {
        const key = keys.shard(tag, 'removals');
        const [, rows] = await redis.hscan(key, '0', 'COUNT', LOOKED_AT);
        if (rows.length === 0) return [];
        const now = await this.valkey.timeAt(key);
        const listed = rows.flatMap((id, i) => (i % 2 === 0 ? this.read(key, id, textOf(rows[i + 1])) : []));
        return listed.filter(({ at }) => now - at >= olderThanMs);
      }),
    );
    return lists.flat();
  }

  /** None for an entry that cannot be read; it is listed in the quarantine. */
  private read(key: string, executionId: string, text: string): Removal[] {
    try {
      return [{ executionId, ...parseStored<Omit<Removal, 'executionId'>>(key, text, executionId) }];
    } catch (error) {
      void this.valkey.quarantine.note(error);
      return [];
    }
  }

  private async run(executionId: string, args: readonly string[]): Promise<ScriptReply> {
    const { keys, scripts } = this.valkey;
    return scripts.json('retireExecution', keys.execution(executionId), [
      keys.tagOf(executionId),
      executionId,
      ...args,
    ]);
  }
}

/** @throws NotFoundError · BelayError NOT_ENDED · NOT_PROVED */
function accepted(
  { refused, at, state, ...facts }: ScriptReply,
  executionId: string,
): { at: number; state: ExecutionState } {
  if (refused === 'NOT_PROVED') throw notProved(executionId, facts as unknown as Unproved);
  if (refused === 'NOT_ENDED')
    throw new BelayError(
      'NOT_ENDED',
      `Execution ${executionId} is ${String(state)}. Only an ended one can be deleted: stop it first (belay stop ${executionId}), or wait for its end.`,
      { details: { id: executionId, state } },
    );
  // Without a state its record had expired: to the caller it did not exist.
  if (refused !== undefined || state === undefined) throw new NotFoundError('execution', executionId);
  return { at: at as number, state: state as ExecutionState };
}

interface Unproved {
  readonly agentId: string;
  readonly count: number;
  /** Its record says that it runs; otherwise it was lost. */
  readonly living: boolean;
}

function notProved(id: string, { agentId, count, living }: Unproved): BelayError {
  const agents = `Agent ${agentId}${count > 1 ? ` and ${count - 1} more` : ''} of ${id}`;
  const why = living ? 'still counts as running' : 'was lost and never seen dead';
  return new BelayError(
    'NOT_PROVED',
    `${agents} ${why}: its proof needs the record, so nothing was deleted. Kill it (belay kill --agent ${agentId}). If nothing can prove its end, check its machine and close that order (belay close).`,
    { details: { id, agentId, count } },
  );
}

function orderMisses(id: string, orderId: string): BelayError {
  return new BelayError(
    'ORDER_OPEN',
    `The receipt of order ${orderId} still needs the record of execution ${id}. Delete it once that order is complete (belay receipt ${orderId}), or after belay close ${orderId}.`,
    { details: { id, orderId } },
  );
}

function orderOpen(id: string, retryAfterMs: number): BelayError {
  const seconds = Math.ceil(retryAfterMs / 1_000);
  return new BelayError(
    'ORDER_OPEN',
    `An order is open, and its receipt may need execution ${id}, which has just ended. Delete it once the order is complete (belay audit), or in ${seconds} s.`,
    { details: { id, retryAfterMs } },
  );
}
