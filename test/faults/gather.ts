import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isBelayError, type BelayEvent } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { parseLines, type EventFacts, type ExecutionFacts, type Line } from './history';

const PAGE = 1_000;

/** Every record in the folder. */
export function readLines(folder: string): Line[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => parseLines(readFileSync(join(folder, name), 'latin1')));
}

/** One execution as the store has it, plain. */
export async function executionFacts(
  life: LifecycleService,
  { id, team, accepted }: Pick<ExecutionFacts, 'id' | 'team' | 'accepted'>,
): Promise<ExecutionFacts> {
  const base = { id, team, accepted };
  try {
    const { state } = await life.executions.get(id);
    const { items } = await life.executions.nodes(id);
    const agents = await life.agents.list({ executionId: id, limit: PAGE });
    return {
      ...base,
      state,
      events: await eventsOf(life, id),
      nodes: items.map((node) => ({ id: node.id, state: node.state })),
      agents: agents.map((agent) => ({
        id: agent.id,
        state: agent.state,
        owner: agent.owner,
        reason: agent.reason,
        proved: agent.report?.proved === true,
      })),
    };
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'NOT_FOUND') throw error;
    return { ...base, state: undefined, events: [], nodes: [], agents: [] };
  }
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
