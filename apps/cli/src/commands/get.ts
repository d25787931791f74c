import type { Command } from 'commander';
import type { AgentRecord, NodeRecord, Receipt } from '#libs/contracts';
import { kindOf, resolveExecutionId } from '../arguments/resolve-id';
import {
  claimedAttempt,
  describeAgent,
  describeAgents,
  describeDropped,
  describeError,
  describeExecution,
  describeNodes,
} from '../execution/describe-execution';
import { readNode } from '../execution/read-node';
import { findWaiting } from '../execution/find-waiting';
import { describeWaiting } from '../execution/waiting';
import type { Bind } from './action';
import { describeLatch } from '../receipt/describe-latch';
import { renderReceipt } from '../receipt/render-receipt';
import { describeTarget } from '../receipt/describe-target';
import { collectPages } from '../session/collect-pages';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { showReceipt } from './receipt';

interface GetOptions {
  readonly full?: boolean;
}

/** Nodes read for people; --json reads all of them. */
const NODES_READ = 1_000;
const NODES_READ_JSON = 100_000;
/** At most this many agents with dropped output or events are shown. */
const DROPPED_SHOWN = 10;

export function addGet(program: Command, bind: Bind): void {
  program
    .command('get')
    .description('show one execution, node, agent, order or latch; a stopped execution with its receipt')
    .argument('<id>', 'execution, EXECUTION/NODE, agent, order or latch')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, id: string, options: GetOptions) => {
        if (kindOf(id) === 'agent') return await getAgent(session, id);
        if (kindOf(id) === 'order') return await showReceipt(session, id, options);
        if (kindOf(id) === 'latch') return await getLatch(session, id);
        const [execution = '', ...node] = id.split('/');
        const executionId = await resolveExecutionId(session.client, execution);
        if (node.length > 0) return await getNode(session, executionId, node.join('/'));
        return await getExecution(session, executionId, options);
      }),
    );
}

async function getExecution(session: Session, id: string, options: GetOptions): Promise<void> {
  const { client } = session;
  const record = await client.execution(id);
  const [{ items: nodes }, { items: agents }] = await Promise.all([
    collectPages<NodeRecord>(
      session.isJson ? NODES_READ_JSON : NODES_READ,
      async (cursor, limit) => await client.nodes(id, { ...cursor, limit }),
    ),
    collectPages<AgentRecord>(
      session.isJson ? NODES_READ_JSON : NODES_READ,
      async (cursor, limit) => await client.agents({ executionId: id, ...cursor, limit }),
    ),
  ]);
  const receipt = record.orderId === undefined ? undefined : await readReceipt(session, record.orderId);
  const waiting = (await findWaiting(client, [record], async () => nodes)).get(id) ?? [];
  if (session.isJson)
    return session.json({
      execution: record,
      nodes,
      agents,
      waiting,
      ...(receipt === undefined ? {} : { receipt }),
    });
  const now = Date.now();
  const lines = [
    ...describeExecution(record, session.out, now),
    ...describeWaiting(waiting),
    ...describeNodes(nodes, record, session.out, session.width),
    ...describeAgents(agents, session.out, session.width, now),
    ...agents
      .filter(({ dropped }) => dropped !== undefined)
      .slice(0, DROPPED_SHOWN)
      .map(({ id: agentId, dropped }) => `${agentId}  ${describeDropped(dropped ?? {})}`),
    ...(receipt === undefined ? [] : ['', ...renderReceipt(receipt, session.out, options)]),
  ];
  for (const line of lines) session.print(line);
}

/** Retention may remove a receipt before its execution, which is still worth showing. */
async function readReceipt(session: Session, orderId: string): Promise<Receipt | undefined> {
  try {
    return await session.client.receipt(orderId);
  } catch (error) {
    session.note(`The receipt of ${orderId} cannot be read: ${(error as Error).message}`);
    return undefined;
  }
}

async function getLatch(session: Session, id: string): Promise<void> {
  const latch = await session.client.latch(id);
  if (session.isJson) return session.json(latch);
  const note = latch.note === undefined ? '' : `: ${cleanText(latch.note)}`;
  for (const line of describeLatch(latch)) session.print(line);
  session.print(`engaged by ${cleanText(latch.by)} at ${formatTime(latch.engagedAt)}${note}`);
  if (latch.orderId !== undefined) session.print(`with order ${latch.orderId}`);
}

async function getNode(session: Session, executionId: string, nodeId: string): Promise<void> {
  const node = await readNode(session.client, executionId, nodeId);
  if (session.isJson) return session.json(node);
  const { agentId } = node;
  const attempt = agentId === undefined ? 'not claimed by a worker yet' : `attempt ${claimedAttempt(node)}`;
  session.print(`${node.id}  ${session.out.state(node.state)}  ${attempt}`);
  if (agentId !== undefined) session.print(`agent ${agentId}`);
  if (node.error !== undefined) session.print(describeError(node.error, session.out));
  if (node.result !== undefined) session.printRaw(`result ${JSON.stringify(node.result, undefined, 2)}`);
}

async function getAgent(session: Session, id: string): Promise<void> {
  const agent = await session.client.agent(id);
  if (session.isJson) return session.json(agent);
  for (const line of describeAgent(agent, session.out, Date.now())) session.print(line);
  if (agent.report === undefined) return;
  const { owner, executionId, nodeId, state, report } = agent;
  const outcome = state === 'killed' ? 'killed' : report.proved ? 'already-ended' : 'unconfirmed';
  const target = { agentId: id, executionId, nodeId, workerId: owner, outcome, report } as const;
  for (const line of describeTarget(target, session.out.state).slice(1)) session.print(line.trim());
}
