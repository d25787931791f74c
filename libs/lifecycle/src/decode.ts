import {
  agentIdOf,
  executionProblem,
  jsonProblem,
  statesOf,
  WORKER_MACHINE,
  type AgentRecord,
  type ExecutionRecord,
  type Grade,
  type NodeRecord,
  type NodeState,
  type StopReport,
  type WorkerRecord,
} from '#libs/contracts';
import { corrupt, parseStored } from '#libs/valkey';

type Fields = Record<string, string>;

const WORKER_STATES: readonly string[] = statesOf(WORKER_MACHINE);

const NODE_STATES = [
  'pending',
  'ready',
  'running',
  'suspended',
  'completed',
  'failed',
  'skipped',
  'cancelled',
] as const;

function pick<K extends string>(fields: Fields, names: readonly K[]): Partial<Record<K, string>> {
  return Object.fromEntries(names.filter((n) => fields[n] !== undefined).map((n) => [n, fields[n]])) as never;
}

function pickNumbers<K extends string>(fields: Fields, names: readonly K[]): Partial<Record<K, number>> {
  return Object.fromEntries(
    names.filter((n) => fields[n] !== undefined).map((n) => [n, Number(fields[n])]),
  ) as never;
}

/** A missing field reads as empty. The code that needs the field judges the record. */
export const textOf = (value: string | null | undefined): string => value ?? '';

const micros = (value: string | number | undefined): number => Number(value) / 1e6;

export function decodeExecution(key: string, fields: Fields): ExecutionRecord {
  const wrong = executionProblem(fields);
  if (wrong !== undefined) throw corrupt({ key, ...wrong, text: textOf(fields[wrong.field]) });
  const counts = Object.fromEntries(NODE_STATES.map((s) => [s, Number(fields[`n:${s}`])])) as Record<
    NodeState,
    number
  >;
  return {
    id: textOf(fields['id']),
    name: textOf(fields['name']),
    state: fields['state'] as ExecutionRecord['state'],
    version: Number(fields['version']),
    epoch: Number(fields['epoch']),
    labels: parseStored(key, textOf(fields['labels']), 'labels'),
    onFailure: fields['onFailure'] as 'stop' | 'continue',
    createdAt: Number(fields['createdAt']),
    ...pickNumbers(fields, [
      'startedAt',
      'completedAt',
      'stoppedAt',
      'deadlineAt',
      'deadlineLeftMs',
      'timeoutMs',
      'graceMs',
      'tokens',
      'softTokens',
      'maxTokens',
    ]),
    ...(fields['frozen'] === undefined ? {} : { frozen: true }),
    ...(fields['softCostMicros'] === undefined ? {} : { softCostUsd: micros(fields['softCostMicros']) }),
    ...(fields['maxCostMicros'] === undefined ? {} : { maxCostUsd: micros(fields['maxCostMicros']) }),
    ...(pick(fields, [
      'reason',
      'note',
      'actor',
      'actorRole',
      'requestId',
      'orderId',
      'idempotencyKey',
    ]) as Partial<ExecutionRecord>),
    ...(fields['error'] === undefined ? {} : { error: parseStored(key, fields['error'], 'error') }),
    costUsd: micros(fields['costMicros']),
    ...(fields['costEstimated'] === undefined ? {} : { costEstimated: true }),
    nodes: { total: Number(fields['n:total']), ...counts },
    live: Number(fields['live']),
  };
}

interface StoredNode {
  i: number;
  s: NodeState;
  a: number;
  p: string;
  /** The last attempt that a worker claimed: an agent exists for it. */
  c?: number;
  e?: NodeRecord['error'];
  r?: NodeRecord['reason'];
  /** The signal that a suspended node waits for, and its deadline. */
  w?: { n: string; u: number };
}

export function decodeNode(key: string, executionId: string, id: string, text: string): NodeRecord {
  const node = parseStored<StoredNode>(key, text, id);
  const wrong = jsonProblem('node', node);
  if (wrong !== undefined) throw corrupt({ key, field: id, problem: wrong.problem, text });
  return {
    id,
    index: node.i,
    pool: node.p,
    state: node.s,
    attempt: node.a,
    ...(node.c === undefined ? {} : { agentId: agentIdOf(executionId, node.i, node.c) }),
    ...(node.e === undefined ? {} : { error: node.e }),
    ...(node.r === undefined ? {} : { reason: node.r }),
    ...(node.s === 'suspended' && node.w !== undefined
      ? { waitsFor: { signal: node.w.n, untilAt: node.w.u } }
      : {}),
  };
}

/** Parses, on the way out, the texts that a worker reported and that Lua must not decode. */
export function decodeAgent(key: string, executionId: string, id: string, text: string): AgentRecord {
  const record = parseStored<Record<string, unknown>>(key, text, id);
  const wrong = jsonProblem('agent', record);
  if (wrong !== undefined) throw corrupt({ key, field: id, problem: wrong.problem, text });
  const { token: _, costMicros, lastMessage: __, ...stored } = record;
  if (typeof stored['report'] === 'string') stored['report'] = parseStored(key, stored['report'], id);
  const report =
    stored['report'] === undefined ? {} : { report: { ...REPORT_DEFAULTS, ...stored['report'] } };
  return {
    ...stored,
    id,
    executionId,
    ...report,
    costUsd: micros(costMicros as number),
  } as unknown as AgentRecord;
}

/** The most common values of a report: they are not stored. */
const REPORT_DEFAULTS = { signals: [], survivors: [], escalated: false };

/** A report as it is stored. */
export function encodeReport({ signals, survivors, escalated, ...report }: StopReport): string {
  return JSON.stringify({
    ...report,
    ...(signals.length === 0 ? {} : { signals }),
    ...(survivors.length === 0 ? {} : { survivors }),
    ...(escalated ? { escalated } : {}),
  });
}

export function decodeWorker(key: string, fields: Fields, lease: string | null): WorkerRecord {
  const state = textOf(fields['state']);
  if (!WORKER_STATES.includes(state))
    throw corrupt({
      key,
      field: 'state',
      problem: `state is not one of ${WORKER_STATES.join(', ')}`,
      text: state,
    });
  return {
    id: textOf(fields['id']),
    state: fields['state'] as WorkerRecord['state'],
    host: textOf(fields['host']),
    bootId: textOf(fields['bootId']),
    pools: textOf(fields['pools']).split(','),
    ...(fields['handlers'] === undefined ? {} : { handlers: fields['handlers'].split(',') }),
    containment: fields['containment'] as WorkerRecord['containment'],
    // Workers of earlier releases stored no isolation, and had no other.
    isolation: (fields['isolation'] ?? 'same-user') as WorkerRecord['isolation'],
    version: Number(fields['version']),
    pid: Number(fields['pid']),
    concurrency: Number(fields['concurrency']),
    createdAt: Number(fields['createdAt']),
    running: Number(textOf(fields['running'])),
    ...pickNumbers(fields, ['httpPort', 'startedAt', 'stoppedAt', 'lastHeartbeatAt']),
    ...(fields['grade'] === undefined ? {} : { grade: fields['grade'] as Grade }),
    ...pick(fields, ['reason']),
    ...(lease === null ? {} : { leaseExpiresAt: Number(lease) }),
  };
}
