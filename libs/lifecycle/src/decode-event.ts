import type { BelayEvent, Entity } from '#libs/contracts';
import { corrupt, parseStored } from '#libs/valkey';

/** An event as execution.lua stores it: what follows from its key and its type is left out. */
interface StoredEvent {
  readonly q: number;
  readonly t: number;
  /** First letter of the entity, and what became of it: `n.completed`. */
  readonly y: string;
  readonly n?: string;
  /** An agent's id without the part that it shares with its execution's. */
  readonly g?: string;
  readonly w?: string;
  readonly a?: number;
  readonly f?: string;
  /** Where it is not what `y` ends with. */
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

/** The event that a stored text stands for. @throws BelayError CORRUPT_RECORD */
export function decodeEvent(
  key: string,
  executionId: string,
  text: string,
  streamId?: string,
): Omit<BelayEvent, 'id'> {
  const event = parseStored<StoredEvent | null>(key, text, streamId);
  const entity = ENTITIES[String(event?.y).slice(0, 2)];
  if (event === null || entity === undefined)
    throw corrupt({ key, problem: 'it is of no known entity', text });
  const { q, t, y, n, g, w, a, f, o, r, u, x, d } = event;
  const what = y.slice(2);
  const to = o ?? (IS_NO_STATE.has(what) ? undefined : what);
  return {
    seq: q,
    type: `${entity === 'question' ? 'ask' : entity}.${what}`,
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

/** Events that are no move: an agent said something, or too much; a budget that only warns was passed. */
const IS_NO_STATE: ReadonlySet<string> = new Set(['event', 'dropped', 'soft-budget', 'signalled']);
