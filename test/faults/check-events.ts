import { MACHINES } from '#libs/contracts';
import type { Violation } from './check';
import type { EventFacts, ExecutionFacts } from './history';

type Table = Readonly<Record<string, Readonly<Record<string, string | undefined>>>>;

/**
 * Checks that events have no gap, that every move is legal and follows the one before, and that together they give the stored
 * state.
 */
export function checkEvents(execution: ExecutionFacts): Violation[] {
  const { id, events } = execution;
  const violations: Violation[] = [];
  const fail = (what: string): void => void violations.push({ rule: 'history', what: `${id}: ${what}` });
  for (const [i, { seq, type }] of events.entries())
    if (seq !== i + 1) fail(`event ${i + 1} (${type}) has seq ${seq}`);
  const states = new Map<string, string>();
  for (const event of events) {
    const { entity, from, to, seq, type } = event;
    if (to === undefined) continue;
    const subject = subjectOf(event);
    // Messages of an agent or an execution, and freezes of it, name its present state.
    const isMove = type === `${entity}.${to}`;
    const before = states.get(subject) ?? (entity === 'node' ? MACHINES.node.initial : undefined);
    if (from !== before) fail(`event ${seq}: ${subject} goes from ${from} to ${to}, and was ${before}`);
    if (isMove ? !isLegal(entity, from, to) : from !== to)
      fail(`event ${seq}: ${subject} may not go from ${from} to ${to}`);
    states.set(subject, to);
  }
  for (const [subject, stored] of storedStates(execution)) {
    // Nodes are made with their execution, without an event of their own.
    const replayed = states.get(subject) ?? (subject.startsWith('node ') ? MACHINES.node.initial : undefined);
    if (replayed !== stored) fail(`${subject} is ${stored}, and by its events ${replayed}`);
    states.delete(subject);
  }
  for (const [subject, state] of states)
    if (execution.state !== undefined) fail(`${subject} is ${state} by its events and not stored`);
  return violations;
}

function subjectOf({ entity, nodeId, agentId }: EventFacts): string {
  if (entity === 'node') return `node ${nodeId}`;
  return entity === 'agent' ? `agent ${agentId}` : 'execution';
}

function isLegal(entity: string, from: string | undefined, to: string): boolean {
  const machine = MACHINES[entity as keyof typeof MACHINES] as
    { readonly initial: string; readonly transitions: Table } | undefined;
  if (machine === undefined) return false;
  return from === undefined ? to === machine.initial : machine.transitions[from]?.[to] !== undefined;
}

function storedStates({ state, nodes, agents }: ExecutionFacts): [string, string][] {
  return [
    ...(state === undefined ? [] : [['execution', state] as [string, string]]),
    ...nodes.map((node): [string, string] => [`node ${node.id}`, node.state]),
    ...agents.map((agent): [string, string] => [`agent ${agent.id}`, agent.state]),
  ];
}
