import { UnknownCursorError, type AgentRecord } from '#libs/contracts';

/** Agents of a page, unless the caller says otherwise. */
const LIMIT = 200;
const CURSOR = /^(\d{1,15})\.(agt_[0-9A-Za-z-]{1,60})$/;

/**
 * One page of agents, newest first. The cursor names the last agent of the page before, so that agents that begin or end
 * meanwhile neither repeat nor hide others. @throws BelayError INVALID_REQUEST for a cursor that no page has answered
 */
export function pageOfAgents(
  agents: readonly AgentRecord[],
  { cursor, limit = LIMIT }: { readonly cursor?: string; readonly limit?: number },
): { items: AgentRecord[]; nextCursor?: string } {
  const ordered = [...agents].sort(newestFirst);
  const last = cursor === undefined ? undefined : readCursor(cursor);
  const rest = last === undefined ? ordered : ordered.filter((agent) => newestFirst(last, agent) < 0);
  const items = rest.slice(0, limit);
  const end = items.at(-1);
  return rest.length > limit && end !== undefined
    ? { items, nextCursor: `${end.createdAt}.${end.id}` }
    : { items };
}

type Place = Pick<AgentRecord, 'createdAt' | 'id'>;

function newestFirst(a: Place, b: Place): number {
  if (a.createdAt !== b.createdAt) return b.createdAt - a.createdAt;
  return a.id === b.id ? 0 : a.id < b.id ? 1 : -1;
}

function readCursor(cursor: string): Place {
  const [, createdAt, id] = CURSOR.exec(cursor) ?? [];
  if (createdAt !== undefined && id !== undefined) return { createdAt: Number(createdAt), id };
  throw new UnknownCursorError();
}
