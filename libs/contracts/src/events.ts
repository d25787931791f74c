import {
  AGENT_MACHINE,
  EXECUTION_MACHINE,
  NODE_MACHINE,
  ORDER_MACHINE,
  QUESTION_MACHINE,
  WORKER_MACHINE,
  type Entity,
} from './states';
import { statesOf, type StateMachine } from './state-machine';

/**
 * One change, as it is appended to the stream and published. `seq` counts per execution without a gap; `id` is the stream's own
 * id, from which subscribers resume. `from` is absent on creation.
 */
export interface BelayEvent {
  readonly id: string;
  readonly seq: number;
  /** `execution.running`, `node.completed`, `agent.killed`, … : entity and the state entered, or a report's name. */
  readonly type: string;
  readonly entity: Entity | 'latch' | 'limits';
  readonly executionId?: string;
  readonly nodeId?: string;
  readonly agentId?: string;
  readonly workerId?: string;
  readonly from?: string;
  readonly to?: string;
  /** The server's clock, milliseconds. */
  readonly at: number;
  readonly attempt?: number;
  readonly reason?: string;
  /** Who did it, where a request did: the name of the token. */
  readonly actor?: string;
  readonly error?: { readonly code: string; readonly message: string; readonly nodeId?: string };
  readonly data?: unknown;
}

const typesOf = <S extends string>(entity: string, machine: StateMachine<S>): string[] =>
  statesOf(machine).map((state) => `${entity}.${state}`);

/** The type of every event of an execution: each state that its records enter, and reports. */
export const EVENT_TYPES: readonly string[] = [
  ...typesOf('execution', EXECUTION_MACHINE),
  'execution.soft-budget',
  'execution.signalled',
  ...typesOf('node', NODE_MACHINE),
  ...typesOf('agent', AGENT_MACHINE),
  'agent.event',
  'agent.dropped',
  'agent.frozen',
  'agent.thawed',
  'agent.proved',
  'agent.written-off',
  'ask.created',
  ...QUESTION_MACHINE.ended.map((state) => `ask.${state}`),
];

/** The type of every event of workers, orders and latches: the events of the control slot's stream. */
export const CONTROL_EVENT_TYPES: readonly string[] = [
  ...typesOf('worker', WORKER_MACHINE),
  ...typesOf('order', ORDER_MACHINE),
  'order.unconfirmed',
  'order.closed',
  'latch.engaged',
  'latch.approved',
  'latch.released',
  'limits.set',
  'agent.escapee',
  'drill.passed',
  'drill.failed',
];

/** Every state that an event of an execution may enter. */
export const EVENT_STATES: readonly string[] = [
  ...new Set([
    ...statesOf(EXECUTION_MACHINE),
    ...statesOf(NODE_MACHINE),
    ...statesOf(AGENT_MACHINE),
    ...statesOf(QUESTION_MACHINE),
  ]),
];

/** The first words of the types of an execution's events. */
export const EVENT_ENTITIES = ['execution', 'node', 'agent', 'ask'] as const;
