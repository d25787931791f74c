import type { BelayEvent, Entity } from '#libs/contracts';
import { corrupt, parseStored } from '#libs/valkey';

/** An event as execution.lua stores it, without the parts that follow from its key and its type. */
interface StoredEvent {
  readonly q: number;
  readonly t: number;
  /** The first letter of the entity, and its new state: `n.completed`. */
  readonly y: string;
  readonly n?: string;
  /** An agent's id without the prefix that it shares with its execution's id. */
  readonly g?: string;
  readonly w?: string;
  readonly a?: number;
  readonly f?: string;
  /** The new state, where `y` does not end with it. */
  readonly o?: string;
  readonly r?: string;
  readonly u?: string;
  readonly x?: BelayEvent['error'];
  readonly d?: unknown;
}

const ENTITIES: Readonly<Record<string, Entity>> = {
  'e.': 'execution',
  'n.': 'node',
  'a.': 'agent',
  'q.': 'question',
};

/** Decodes a stored event. @throws BelayError CORRUPT_RECORD */
export function decodeEvent(
  key: string,
  executionId: string,
  text: string,
  streamId?: string,
): Omit<BelayEvent, 'id'> {
  const event = parseStored<StoredEvent | null>(key, text, streamId);
  const kind = decodeKind(String(event?.y), event?.o);
  if (event === null || kind === undefined) throw corrupt({ key, problem: 'it is of no known entity', text });
  const { q, t, n, g, w, a, f, r, u, x, d } = event;
  const { entity, type, to } = kind;
  return {
    seq: q,
    type,
    entity,
    executionId,
    at: t,
    ...(n === undefined ? {} : { nodeId: n }),
    ...(g === undefined ? {} : { agentId: `agt_${executionId.slice(4)}${g}` }),
    ...(w === undefined ? {} : { workerId: w }),
    ...(a === undefined ? {} : { attempt: a }),
    ...(f === undefined ? {} : { from: f }),
    ...(to === undefined ? {} : { to }),
    ...(r === undefined ? {} : { reason: r }),
    ...(u === undefined ? {} : { actor: u }),
    ...(x === undefined ? {} : { error: x }),
    ...(d === undefined ? {} : { data: d }),
  };
}

/** Events that are no change of state: an agent's message, a dropped message, a warning about a budget. */
const IS_NO_STATE: ReadonlySet<string> = new Set(['event', 'dropped', 'soft-budget', 'signalled']);

/** The entity, the type and the entered state of a stored event; undefined for one of no known entity. */
export function decodeKind(
  y: string,
  o: string | undefined,
): { entity: Entity; type: string; to: string | undefined } | undefined {
  const entity = ENTITIES[y.slice(0, 2)];
  if (entity === undefined) return undefined;
  const what = y.slice(2);
  const to = o ?? (IS_NO_STATE.has(what) ? undefined : what);
  return { entity, type: `${entity === 'question' ? 'ask' : entity}.${what}`, to };
}
