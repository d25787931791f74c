import { isBelayError, type AgentLogs, type NodeRecord } from '#libs/contracts';
import { EXIT, type ExitCode } from '../exit-codes';
import { abortOnSignal } from '../session/abort-on-signal';
import { collectPages } from '../session/collect-pages';
import type { Session } from '../session/session';
import { lastOf } from './agent-logs';
import { NamedLines } from './named-lines';

/** The output of at most this many nodes is printed. */
const MOST_NODES = 1_000;
/** The logs of this many agents are read at a time. */
const READ_AT_ONCE = 8;
/** At most this many agents are followed at a time: each is a connection to the orchestrator. */
const MOST_FOLLOWED = 64;

/** Prints what the latest attempt of each node has written so far, node after node. @param tail so many last lines of each */
export async function printExecution(session: Session, executionId: string, tail?: number): Promise<void> {
  const { nodes, isMore } = await begunNodes(session, executionId);
  if (nodes.length === 0) session.note(`No node of ${executionId} has an agent yet.`);
  const out = new NamedLines(session);
  for (const { id } of nodes) out.expect(id);
  const ahead: Promise<AgentLogs | undefined>[] = [];
  for (const [index, { id, agentId = '' }] of nodes.entries()) {
    while (ahead.length < READ_AT_ONCE && index + ahead.length < nodes.length) {
      const next = logsOf(session, nodes[index + ahead.length]?.agentId ?? '');
      next.catch(() => undefined); // awaited below, in its turn
      ahead.push(next);
    }
    const logs = await ahead.shift();
    for (const line of lastOf(logs?.lines ?? [], tail)) out.print(id, agentId, line);
    out.end(id, agentId);
    if (logs === undefined) session.note(`The output of ${id} is not kept any more.`);
    else if (tail === undefined && logs.skipped.lines > 0)
      session.note(`Parts of the output of ${id} are left out. More: belay logs ${agentId}`);
  }
  if (isMore) session.note(`The first ${MOST_NODES} nodes are shown.`);
}

/** Prints what the agents of an execution write until it ends, each attempt from its beginning. */
export async function followExecution(session: Session, executionId: string): Promise<ExitCode> {
  const ending = abortOnSignal(session.process);
  const failing = new AbortController();
  const signal = AbortSignal.any([ending.signal, failing.signal]);
  const out = new NamedLines(session);
  const known = new Set<string>();
  const following = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  const onReconnect = ({ delayMs }: { readonly delayMs: number }): void =>
    session.note(`connection lost; next try in ${delayMs} ms`);
  const follow = async (nodeId: string, agentId: string): Promise<void> => {
    try {
      for await (const line of session.client.logs(agentId, { follow: true, signal, onReconnect }))
        out.print(nodeId, agentId, line);
    } catch (error) {
      if (isGone(error)) return;
      failure ??= { error };
      failing.abort();
    }
    out.end(nodeId, agentId);
  };
  const begin = async (nodeId: string, agentId: string): Promise<void> => {
    if (known.has(agentId)) return;
    known.add(agentId);
    out.expect(nodeId);
    while (following.size >= MOST_FOLLOWED && !signal.aborted) await Promise.race(following);
    const one = follow(nodeId, agentId).finally(() => following.delete(one));
    following.add(one);
  };
  try {
    // The events of a large execution are not all kept.
    for (const { id, agentId = '' } of (await begunNodes(session, executionId)).nodes)
      await begin(id, agentId);
    for await (const { nodeId, agentId } of session.client.events(executionId, { signal, onReconnect }))
      if (nodeId !== undefined && agentId !== undefined) await begin(nodeId, agentId);
    await Promise.all(following);
    if (failure !== undefined) throw failure.error;
    return ending.wasInterrupted() ? EXIT.interrupted : EXIT.ok;
  } finally {
    failing.abort();
    ending.release();
  }
}

async function begunNodes(
  session: Session,
  executionId: string,
): Promise<{ readonly nodes: readonly NodeRecord[]; readonly isMore: boolean }> {
  const { items, isMore } = await collectPages<NodeRecord>(MOST_NODES, async (cursor, limit) =>
    session.client.nodes(executionId, { ...cursor, limit }),
  );
  return { nodes: items.filter(({ agentId }) => agentId !== undefined), isMore };
}

async function logsOf(session: Session, agentId: string): Promise<AgentLogs | undefined> {
  try {
    return await session.client.logs(agentId);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Retention has removed the agent. */
const isGone = (error: unknown): boolean => isBelayError(error) && error.code === 'NOT_FOUND';
