import type { AgentRecord, Dropped, ExecutionRecord, NodeRecord, NodeState } from '#libs/contracts';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { count, formatCost, formatDuration, formatTime } from '../text/format';
import { renderTable } from '../text/table';
import { describePause, shownState } from './describe-pause';
import { runtimeOf } from './execution-table';

/** At most this many rows of nodes; the others are counted. */
const NODES_SHOWN = 40;
const AGENTS_SHOWN = 20;
/** States in the order in which a person looks for them. */
const ORDER: readonly NodeState[] = [
  'failed',
  'running',
  'suspended',
  'ready',
  'cancelled',
  'skipped',
  'pending',
  'completed',
];

/** `40 nodes: 10 completed, 2 failed, 28 pending`. */
export function describeCounts(nodes: ExecutionRecord['nodes']): string {
  const parts = (
    ['completed', 'running', 'ready', 'pending', 'suspended', 'failed', 'skipped', 'cancelled'] as const
  )
    .filter((state) => nodes[state] > 0)
    .map((state) => `${nodes[state]} ${state}`);
  return `${count(nodes.total, 'node')}${parts.length === 0 ? '' : `: ${parts.join(', ')}`}`;
}

/** The execution itself: its id, state, times and reasons. */
export function describeExecution(record: ExecutionRecord, style: Style, now: number): string[] {
  const lines = [`${record.id}  ${style.strong(cleanText(record.name))}  ${style.state(shownState(record))}`];
  lines.push(describeCounts(record.nodes));
  const pause = describePause(record);
  if (pause !== undefined) lines.push(pause);
  const runtime = runtimeOf(record, now);
  const started = record.startedAt === undefined ? 'not started' : `started ${formatTime(record.startedAt)}`;
  const ran = runtime === undefined ? '' : `, ${formatDuration(runtime)}`;
  lines.push(`${started}${ran}, ${describeSpent(record)}`);
  const labels = Object.entries(record.labels).map(([name, value]) => `${name}=${value}`);
  if (labels.length > 0) lines.push(`labels ${cleanText(labels.join(' '))}`);
  if (record.reason !== undefined) {
    const by = record.actor === undefined ? '' : ` by ${cleanText(record.actor)}`;
    const note = record.note === undefined ? '' : `: ${cleanText(record.note)}`;
    lines.push(`reason ${record.reason}${by}${note}`);
  }
  if (record.error !== undefined) lines.push(describeError(record.error, style));
  return lines;
}

/** `error SPAWN_FAILED in node a: …`. */
export function describeError(error: NonNullable<ExecutionRecord['error']>, style: Style): string {
  const where = error.nodeId === undefined ? '' : ` in node ${cleanText(error.nodeId)}`;
  return `${style.bad('error')} ${error.code}${where}: ${cleanText(error.message)}`;
}

/** The attempt number in the id of the node's agent; `-` for a node that no worker has claimed yet. */
export function claimedAttempt({ agentId }: Pick<NodeRecord, 'agentId'>): string {
  return agentId === undefined ? '-' : (/-(\d+)$/.exec(agentId)?.[1] ?? '-');
}

/** The nodes, failed and running ones first. */
export function describeNodes(
  nodes: readonly NodeRecord[],
  record: ExecutionRecord,
  style: Style,
  width: number,
): string[] {
  const sorted = [...nodes].sort(
    (a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.index - b.index,
  );
  const shown = sorted.slice(0, NODES_SHOWN);
  if (shown.length === 0) return [];
  const table = renderTable({
    head: ['NODE', 'STATE', 'ATTEMPT', 'AGENT', 'ERROR'],
    rows: shown.map((node) => [
      node.id,
      node.state,
      claimedAttempt(node),
      node.agentId ?? '-',
      node.error === undefined ? (node.reason ?? '') : cleanText(`${node.error.code}: ${node.error.message}`),
    ]),
    width,
    flexible: 4,
    paint: (cell, column) => (column === 1 ? style.state(cell) : cell),
  });
  const rest = record.nodes.total - shown.length;
  return [
    '',
    table,
    ...(rest > 0 ? [`… and ${count(rest, 'more node', 'more nodes')} (--json has all)`] : []),
  ];
}

/** The live agents. */
export function describeAgents(
  agents: readonly AgentRecord[],
  style: Style,
  width: number,
  now: number,
): string[] {
  const live = agents.filter(({ state }) => state === 'spawning' || state === 'running');
  if (live.length === 0) return [];
  const table = renderTable({
    head: ['AGENT', 'STATE', 'WORKER', 'PID', 'TIME', 'NODE'],
    rows: live
      .slice(0, AGENTS_SHOWN)
      .map((agent) => [
        agent.id,
        agent.frozen === true ? 'frozen' : agent.state,
        agent.owner,
        agent.pid === undefined ? '-' : String(agent.pid),
        agent.startedAt === undefined ? '-' : formatDuration(now - agent.startedAt),
        agent.nodeId,
      ]),
    width,
    flexible: 5,
    paint: (cell, column) => (column === 1 ? style.state(cell) : cell),
  });
  const rest = live.length - AGENTS_SHOWN;
  return ['', table, ...(rest > 0 ? [`… and ${count(rest, 'more agent', 'more agents')}`] : [])];
}

/** One agent: where it runs or ran, and how it ended. */
export function describeAgent(agent: AgentRecord, style: Style, now: number): string[] {
  const still = agent.frozen === true ? ', frozen: its processes stand still' : '';
  const lines = [
    `${agent.id}  ${style.state(agent.state)}${still}`,
    `node ${agent.nodeId} of ${agent.executionId}, attempt ${agent.attempt}, epoch ${agent.epoch}`,
    `worker ${agent.owner}, pool ${agent.pool}${agent.pid === undefined ? '' : `, pid ${agent.pid}`}`,
  ];
  if (agent.startedAt !== undefined) {
    const end = agent.completedAt ?? agent.stoppedAt;
    lines.push(`started ${formatTime(agent.startedAt)}, ${formatDuration((end ?? now) - agent.startedAt)}`);
  }
  if (agent.exitCode !== undefined) lines.push(`exit code ${agent.exitCode}`);
  if (agent.signal !== undefined) lines.push(`ended by ${agent.signal}`);
  if (agent.reason !== undefined) lines.push(`reason ${agent.reason}`);
  if (agent.error !== undefined) lines.push(describeError(agent.error, style));
  lines.push(describeSpent(agent));
  if (agent.badLines !== undefined) lines.push(`lines on fd 3 that are no message: ${agent.badLines}`);
  if (agent.dropped !== undefined) lines.push(describeDropped(agent.dropped));
  return lines;
}

/** The cost, and the tokens of language models if an agent reported any. */
export function describeSpent({ costUsd, costEstimated = false, tokens }: Spent): string {
  const cost = `cost ${formatCost(costUsd)}${costEstimated ? ', estimated' : ''}`;
  return tokens === undefined ? cost : `${cost}, ${tokens.toLocaleString('en-US')} tokens`;
}

interface Spent {
  readonly costUsd: number;
  readonly costEstimated?: boolean;
  readonly tokens?: number;
}

/** The output and events that a bound kept from being stored. */
export function describeDropped({ events, progress, checkpoints, lines, bytes }: Dropped): string {
  const counts = [
    [events, 'events'],
    [progress, 'progress reports'],
    [checkpoints, 'checkpoints'],
    [lines, `lines of output (${bytes ?? 0} bytes; the worker's file may have them)`],
  ] as const;
  const dropped = counts.flatMap(([count, what]) => (count === undefined ? [] : [`${count} ${what}`]));
  return `not kept: ${dropped.join(', ')}`;
}
