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

/** A ready node. Its pool and own labels are told where the server knows to tell them. */
export type ReadyNode = Omit<NodeRecord, 'pool'> & {
  readonly pool?: string;
  readonly labels?: Readonly<Record<string, string>>;
};

/** Why ready nodes of a running execution do not start, as far as it can be seen from outside. */
export interface Waiting {
  readonly nodes: number;
  readonly why: 'latch' | 'latch-maybe' | 'no-worker' | 'workers-latched';
  readonly latchId?: string;
  readonly kind?: Latch['kind'];
  readonly pool?: string;
  /** Conditions of a latch that the node may meet: its own labels are not told. */
  readonly selector?: string;
}

/** Reasons named; more than a few would be noise. */
const REASONS_SHOWN = 5;

/** Groups ready nodes by what keeps them; those that only wait for a free place are in no group. */
export function whatWaits(
  record: ExecutionRecord,
  nodes: readonly ReadyNode[],
  workers: readonly WorkerRecord[],
  latches: readonly Latch[],
): Waiting[] {
  const running = workers.filter(({ state }) => state === 'running');
  const groups = new Map<string, Waiting>();
  for (const node of nodes) {
    if (node.state !== 'ready') continue;
    const reason = reasonOf(record, node, running, latches);
    if (reason === undefined) continue;
    const key = JSON.stringify(reason);
    groups.set(key, { ...reason, nodes: (groups.get(key)?.nodes ?? 0) + 1 });
  }
  return [...groups.values()];
}

function reasonOf(
  record: ExecutionRecord,
  node: ReadyNode,
  running: readonly WorkerRecord[],
  latches: readonly Latch[],
): Omit<Waiting, 'nodes'> | undefined {
  const { pool } = node;
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
  const serving = running.filter(({ pools }) => pool === undefined || pools.includes(pool));
  const ofPool = pool === undefined ? {} : { pool };
  if (serving.length === 0) return { why: 'no-worker', ...ofPool };
  const covers = serving.map(({ id }) => coverOf(id));
  const [first] = covers;
  if (first === undefined || covers.includes(undefined))
    return node.labels === undefined ? mayBeLatched(record, serving, latches) : undefined;
  return { why: 'workers-latched', latchId: first.id, kind: first.kind, ...ofPool };
}

/**
 * A latch over labels that the execution neither meets nor excludes: what the node adds decides. Said only where a worker
 * has a free place, since then the node should have started.
 */
function mayBeLatched(
  record: ExecutionRecord,
  serving: readonly WorkerRecord[],
  latches: readonly Latch[],
): Omit<Waiting, 'nodes'> | undefined {
  if (serving.every(({ running, concurrency }) => running >= concurrency)) return undefined;
  for (const { id, kind, scope } of latches) {
    if (scope.type !== 'selector') continue;
    // Conditions on what the execution has not labelled, all others met.
    const met = conditionsOf(scope.selector).filter(({ key }) => record.labels[key] !== undefined);
    if (!selectorMatches(met, record.labels)) continue;
    return { why: 'latch-maybe', latchId: id, kind, selector: scope.selector };
  }
  return undefined;
}

/** `3 nodes ready: pool gpu has no worker`. */
export function describeWaiting(waiting: readonly Waiting[]): string[] {
  const shown = waiting
    .slice(0, REASONS_SHOWN)
    .map((one) => `${count(one.nodes, 'node')} ready: ${wordsOf(one)}`);
  const rest = waiting.length - shown.length;
  return rest > 0 ? [...shown, `… and ${count(rest, 'more reason')} (--json has all)`] : shown;
}

function wordsOf({ why, nodes, latchId, kind, pool, selector }: Waiting): string {
  const named = `${kind ?? 'latch'} ${latchId ?? ''}`;
  const where = pool === undefined ? '' : ` of pool ${cleanText(pool)}`;
  switch (why) {
    case 'latch':
      return `${named} covers ${nodes === 1 ? 'it' : 'them'}`;
    case 'latch-maybe':
      return `${named} over labels ${cleanText(selector ?? '')} holds ${nodes === 1 ? 'it if its' : 'them if their'} own labels match`;
    case 'no-worker':
      return pool === undefined ? 'no worker runs' : `pool ${cleanText(pool)} has no worker`;
    case 'workers-latched':
      return `${named} covers what could run ${nodes === 1 ? 'it' : 'them'}: every worker${where} is held`;
  }
}
