import { AGENT_MACHINE, EXECUTION_MACHINE, NODE_MACHINE } from './states';
import { statesOf } from './state-machine';

/**
 * A stored record that cannot be read (docs/architecture.md#a-record-that-cannot-be-read): it stays where it is, is reported
 * once, and sweeps leave it alone.
 */
export interface QuarantinedRecord {
  readonly key: string;
  /** The field at fault, for a hash. */
  readonly field?: string;
  readonly executionId?: string;
  /** The fault, in a sentence. */
  readonly problem: string;
  /** Its beginning, 200 characters at most; only the size where it may contain secrets. */
  readonly cut: string;
  /** The server's clock, milliseconds. */
  readonly firstSeenAt: number;
}

/** Longer text is no record of Belay's: the largest is a node's spec, and a body has at most 8 MiB. */
export const MAX_STORED_CHARS = 16 * 1024 * 1024;

/** The fault of a record, and its field; undefined: none. */
export interface ShapeProblem {
  readonly field: string;
  readonly problem: string;
}

type Values = Readonly<Record<string, unknown>>;
type Kind = 'text' | 'number' | readonly string[];

const EXECUTION_SHAPE = new Map<string, Kind>([
  ['id', 'text'],
  ['state', statesOf(EXECUTION_MACHINE)],
  ...['version', 'epoch', 'createdAt', 'live', 'n:total'].map((name) => [name, 'number'] as const),
  ...statesOf(NODE_MACHINE).map((state) => [`n:${state}`, 'number'] as const),
]);
const NODE_SHAPE = new Map<string, Kind>([
  ['s', statesOf(NODE_MACHINE)],
  ['i', 'number'],
  ['a', 'number'],
  ['p', 'text'],
]);
const AGENT_SHAPE = new Map<string, Kind>([
  ...['nodeId', 'owner'].map((name) => [name, 'text'] as const),
  ['state', statesOf(AGENT_MACHINE)],
  ...['version', 'epoch', 'attempt', 'createdAt'].map((name) => [name, 'number'] as const),
]);

function isOf(kind: Kind, value: unknown, isText: boolean): boolean {
  if (kind === 'text') return typeof value === 'string' && value !== '';
  if (kind !== 'number') return kind.includes(value as string);
  // A hash stores every value as text; JSON stores numbers as numbers.
  if (typeof value !== (isText ? 'string' : 'number') || value === '') return false;
  return Number.isFinite(Number(value));
}

function firstProblem(
  shape: ReadonlyMap<string, Kind>,
  values: Values,
  isText: boolean,
): ShapeProblem | undefined {
  for (const [field, kind] of shape) {
    const value = values[field];
    if (isOf(kind, value, isText)) continue;
    const wanted = typeof kind === 'string' ? `a ${kind}` : `one of ${kind.join(', ')}`;
    return { field, problem: value === undefined ? `${field} is missing` : `${field} is not ${wanted}` };
  }
  return undefined;
}

/** Checks the fields of an execution's hash. */
export const executionProblem = (fields: Values): ShapeProblem | undefined =>
  firstProblem(EXECUTION_SHAPE, fields, true);

/** Checks the JSON of a node or an agent. */
export function jsonProblem(kind: 'node' | 'agent', value: unknown): ShapeProblem | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { field: '', problem: 'it is JSON, but not an object' };
  return firstProblem(kind === 'node' ? NODE_SHAPE : AGENT_SHAPE, value as Values, false);
}

/** Checks the first processes to which a proof is limited; absent, it covers everything of its worker. */
export function leadersProblem(leaders: unknown): ShapeProblem | undefined {
  if (leaders === undefined) return undefined;
  const isPidStart = (one: unknown): boolean =>
    typeof (one as { pid?: unknown } | null)?.pid === 'number' &&
    typeof (one as { startTime?: unknown }).startTime === 'string';
  return Array.isArray(leaders) && leaders.every(isPidStart)
    ? undefined
    : { field: 'leaders', problem: 'leaders is not a list of pid and startTime' };
}

/** Checks a stored proof that a worker's processes are dead. */
export function proofProblem(value: unknown): ShapeProblem | undefined {
  const { report, leaders } = (value ?? {}) as { report?: unknown; leaders?: unknown };
  if (typeof report !== 'object' || report === null)
    return { field: 'report', problem: 'report is not an object' };
  const stop = report as Values;
  if (stop['proved'] !== true) return { field: 'proved', problem: 'report.proved is not true' };
  for (const field of ['processes', 'signals', 'evidence', 'survivors'])
    if (!Array.isArray(stop[field])) return { field, problem: `report.${field} is not a list` };
  return leadersProblem(leaders);
}
