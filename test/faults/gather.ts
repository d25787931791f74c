import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentIdOf, agentQueueName, isBelayError, type BelayEvent, type NodeRecord } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { parseLines, type EventFacts, type ExecutionFacts, type Line, type WorkerFacts } from './history';
import type { PlannedExecution } from './plan-types';

const PAGE = 1_000;

/** Every record in the folder. */
export function readLines(folder: string): Line[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => parseLines(readFileSync(join(folder, name), 'latin1')));
}

/** Each worker as stored at the end. */
export async function workerFacts(
  life: LifecycleService,
  workers: ReadonlyMap<string, readonly string[]>,
): Promise<WorkerFacts[]> {
  return Promise.all(
    [...workers].map(async ([id, pools]) => {
      const { state, reason } = await life.workers.get(id);
      return { id, pools, state, reason };
    }),
  );
}

/** One execution as stored, as plain data, with the fields of its plan. */
export async function executionFacts(
  life: LifecycleService,
  { id, team, accepted }: Pick<ExecutionFacts, 'id' | 'team' | 'accepted'>,
  planned?: PlannedExecution,
): Promise<ExecutionFacts> {
  const base = { id, team, accepted };
  try {
    const { state, name, reason, error, costUsd } = await life.executions.get(id);
    const asked = new Map(planned?.nodes.map((node) => [node.id, node]));
    const { items } = await life.executions.nodes(id);
    const agents = await life.agents.list({ executionId: id, limit: PAGE });
    const events = await eventsOf(life, id);
    // Retention may remove an ended execution between these reads: then none of them counts.
    await life.executions.get(id);
    return {
      ...base,
      state,
      name,
      meant: planned?.meant,
      reason,
      error: error && `${error.code}: ${error.message}`,
      costUsd,
      maxCostUsd: planned?.maxCostUsd,
      timeoutMs: planned?.timeoutMs,
      events,
      nodes: items.map((node) => {
        const { pool, role, timeoutMs } = asked.get(node.id) ?? {};
        return { id: node.id, state: node.state, pool, role, timeoutMs };
      }),
      agents: agents.map((agent) => ({
        id: agent.id,
        state: agent.state,
        owner: agent.owner,
        reason: agent.reason,
        proved: agent.report?.proved === true,
        orderId: agent.orderId,
        nodeId: agent.nodeId,
        costUsd: agent.costUsd,
      })),
    };
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'NOT_FOUND') throw error;
    return { ...base, state: undefined, events: [], nodes: [], agents: [] };
  }
}

/** The nodes, agents and jobs for which an unfinished execution waits, and the state of each job's hand-over. */
export async function waitsFor(life: LifecycleService, id: string, queuePrefix: string): Promise<string> {
  const { items } = await life.executions.nodes(id);
  const agents = await life.agents.liveOf(id);
  const nodes = items
    .filter(({ state }) => ['ready', 'running', 'suspended'].includes(state))
    .map(async (node) => {
      const { id: nodeId, state, attempt } = node;
      const agent = agents.find((one) => one.nodeId === nodeId);
      const frozen = agent?.frozen === true ? ', frozen' : '';
      const who = agent === undefined ? 'no live agent' : `${agent.state}${frozen} on ${agent.owner}`;
      const way = state === 'ready' ? `, ${await handOverOf(life, id, node, queuePrefix)}` : '';
      return `${nodeId} is ${state} (attempt ${attempt}, ${who}${way})`;
    });
  const pending = items.filter(({ state }) => state === 'pending').length;
  const { keys, redis } = life.valkey;
  const latches = await redis.hvals(keys.shard(keys.control, 'latches'));
  return [...(await Promise.all(nodes)), `${pending} nodes pending`, ...latches].join('; ');
}

/** The entry's next look in the outbox, whether it is parked, its job in BullMQ and that job's lock. */
async function handOverOf(
  life: LifecycleService,
  id: string,
  { index, attempt, pool }: NodeRecord,
  prefix: string,
): Promise<string> {
  const { keys, redis } = life.valkey;
  const tag = keys.tagOf(id);
  const agentId = agentIdOf(id, index, attempt);
  const queue = `${prefix}:${agentQueueName(pool)}`;
  const [due, latched, paused, now, active, waiting, token] = await Promise.all([
    redis.zscore(keys.shard(tag, 'outbox:at'), agentId),
    redis.sismember(keys.shard(tag, 'parked'), agentId),
    redis.sismember(keys.shard(tag, `exe:${id}:parked`), agentId),
    life.valkey.timeAt(keys.shard(tag, 'outbox:at')),
    redis.lpos(`${queue}:active`, agentId),
    redis.zscore(`${queue}:prioritized`, agentId),
    redis.get(`${queue}:${agentId}:lock`),
  ]);
  const look = due === null ? 'not in the outbox' : `next look in ${(Number(due) - now) / 1_000} s`;
  const parked = latched === 1 || paused === 1 ? ', parked' : '';
  const job =
    active === null ? (waiting === null ? 'no job' : 'job waits') : `job held by ${token ?? 'nobody'}`;
  return `pool ${pool}, ${look}${parked}, ${job}`;
}

async function eventsOf(life: LifecycleService, id: string): Promise<EventFacts[]> {
  const events: BelayEvent[] = [];
  for (let after = '0-0'; ;) {
    const page = await life.executions.events(id, after, PAGE);
    events.push(...page);
    if (page.length < PAGE) break;
    after = page.at(-1)?.id ?? after;
  }
  return events.map(({ seq, type, entity, nodeId, agentId, from, to, at, reason }) => ({
    seq,
    type,
    entity,
    nodeId,
    agentId,
    from,
    to,
    atMs: at,
    reason,
  }));
}
