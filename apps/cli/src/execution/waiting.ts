import {
  agentIdOf,
  conditionsOf,
  scopeCovers,
  selectorMatches,
  type ExecutionRecord,
  type Latch,
  type NodeRecord,
  type WorkerRecord,
} from '#libs/contracts';
import { cleanText } from '../text/clean-text';
import { count } from '../text/format';

/** A ready node. Its pool and own labels are present if the server reports them. */
export type ReadyNode = Omit<NodeRecord, 'pool'> & {
  readonly pool?: string;
  readonly labels?: Readonly<Record<string, string>>;
};

/** Why ready nodes of a running execution do not start, as far as a client can tell. */
export interface Waiting {
  readonly nodes: number;
  readonly why: 'latch' | 'latch-maybe' | 'no-worker' | 'workers-latched' | 'busy' | 'limit';
  readonly latchId?: string;
  readonly kind?: Latch['kind'];
  readonly pool?: string;
  /** Workers of the pool that drain: they take no more work. */
  readonly draining?: number;
  /** The places of the pool's workers, when all are taken. */
  readonly places?: number;
  /** The full limit. */
  readonly limit?: string;
  /** Conditions of a latch that the node may meet: the node's own labels are unknown. */
  readonly selector?: string;
}

/** At most this many reasons are named. */
const REASONS_SHOWN = 5;

/** Groups ready nodes by the reason why they wait. Nodes without a reason are about to start, and in no group. */
export function whatWaits(
  record: ExecutionRecord,
  nodes: readonly ReadyNode[],
  workers: readonly WorkerRecord[],
  latches: readonly Latch[],
): Waiting[] {
  const groups = new Map<string, Waiting>();
  for (const node of nodes) {
    if (node.state !== 'ready') continue;
    const reason = reasonOf(record, node, workers, latches);
    if (reason === undefined) continue;
    const key = JSON.stringify(reason);
    groups.set(key, { ...reason, nodes: (groups.get(key)?.nodes ?? 0) + 1 });
  }
  return [...groups.values()];
}

function reasonOf(
  record: ExecutionRecord,
  node: ReadyNode,
  workers: readonly WorkerRecord[],
  latches: readonly Latch[],
): Omit<Waiting, 'nodes'> | undefined {
  const { pool } = node;
  const ofThePool = workers.filter(({ pools }) => pool === undefined || pools.includes(pool));
  const address = {
    agentId: agentIdOf(record.id, node.index, node.attempt),
    executionId: record.id,
    pool,
    labels: { ...record.labels, ...node.labels },
  };
  const coverOf = (workerId: string): Latch | undefined =>
    latches.find(({ scope }) => scopeCovers(scope, { ...address, workerId }));
  const cover = coverOf('');
  if (cover !== undefined) return { why: 'latch', latchId: cover.id, kind: cover.kind };
  if (node.limit !== undefined) return { why: 'limit', limit: node.limit };
  const serving = ofThePool.filter(({ state }) => state === 'running');
  const ofPool = pool === undefined ? {} : { pool };
  if (serving.length === 0) {
    const draining = ofThePool.filter(({ state }) => state === 'draining').length;
    return { why: 'no-worker', ...ofPool, ...(draining === 0 ? {} : { draining }) };
  }
  const covers = serving.map(({ id }) => coverOf(id));
  const [first] = covers;
  if (first === undefined || covers.includes(undefined)) {
    if (serving.every(isFull)) {
      const places = serving.reduce((sum, { concurrency }) => sum + concurrency, 0);
      return { why: 'busy', ...ofPool, places };
    }
    return node.labels === undefined ? mayBeLatched(record, latches) : undefined;
  }
  return { why: 'workers-latched', latchId: first.id, kind: first.kind, ...ofPool };
}

/**
 * A latch over labels that the execution neither meets nor excludes: the node's own labels decide. Reported only where a worker
 * has a free place, since then the node should have started.
 */
function mayBeLatched(
  record: ExecutionRecord,
  latches: readonly Latch[],
): Omit<Waiting, 'nodes'> | undefined {
  for (const { id, kind, scope } of latches) {
    if (scope.type !== 'selector') continue;
    // Conditions on labels that the execution does not have, if it meets all others.
    const met = conditionsOf(scope.selector).filter(({ key }) => record.labels[key] !== undefined);
    if (!selectorMatches(met, record.labels)) continue;
    return { why: 'latch-maybe', latchId: id, kind, selector: scope.selector };
  }
  return undefined;
}

function isFull({ running, concurrency }: WorkerRecord): boolean {
  return running >= concurrency;
}

/** `3 nodes ready: pool gpu has no worker`. */
export function describeWaiting(waiting: readonly Waiting[]): string[] {
  const shown = waiting
    .slice(0, REASONS_SHOWN)
    .map((one) => `${count(one.nodes, 'node')} ready: ${errorMessage(one)}`);
  const rest = waiting.length - shown.length;
  return rest > 0 ? [...shown, `… and ${count(rest, 'more reason')} (--json has all)`] : shown;
}

function errorMessage({
  why,
  nodes,
  latchId,
  kind,
  pool,
  selector,
  limit,
  draining = 0,
  places = 0,
}: Waiting): string {
  const named = `${kind ?? 'latch'} ${latchId ?? ''}`;
  const where = pool === undefined ? '' : ` of pool ${cleanText(pool)}`;
  switch (why) {
    case 'latch':
      return `${named} covers ${nodes === 1 ? 'it' : 'them'}`;
    case 'latch-maybe':
      return `${named} over labels ${cleanText(selector ?? '')} covers ${nodes === 1 ? 'it if its' : 'them if their'} own labels match`;
    case 'no-worker': {
      const none = pool === undefined ? 'no worker runs' : `pool ${cleanText(pool)} has no worker`;
      return draining === 0
        ? none
        : `${none} that takes work: ${count(draining, 'worker')} of it ${draining === 1 ? 'is' : 'are'} draining`;
    }
    case 'busy':
      return places === 1 ? `the only place${where} is taken` : `all ${places} places${where} are taken`;
    case 'limit':
      return `the limit on ${cleanText(limit ?? '')} is full (belay limits show)`;
    case 'workers-latched':
      return `${named} covers every worker${where}`;
  }
}
