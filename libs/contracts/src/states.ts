import type { StateMachine } from './state-machine';

/** `idle → running ⇄ paused → stopping → stopped / failed`, or `completed`. */
export type ExecutionState = 'idle' | 'running' | 'paused' | 'stopping' | 'stopped' | 'failed' | 'completed';
/** One attempt at a node. */
export type AgentState = 'spawning' | 'running' | 'completed' | 'failed' | 'killed';
/** A vertex of the DAG. */
export type NodeState =
  'pending' | 'ready' | 'running' | 'suspended' | 'completed' | 'failed' | 'skipped' | 'cancelled';
/** One OS process of apps/worker. `stopped` is final: a stopped worker process never starts again. */
export type WorkerState = 'idle' | 'running' | 'draining' | 'stopped';
/** A durable command to workers. */
export type OrderState = 'open' | 'complete' | 'incomplete';
/** A question of an agent to people; denied unless answered in time. */
export type QuestionState = 'open' | 'answered' | 'denied' | 'cancelled';

export const EXECUTION_MACHINE: StateMachine<ExecutionState> = {
  entity: 'execution',
  initial: 'idle',
  ended: ['completed', 'stopped', 'failed'],
  transitions: {
    idle: { running: 'start', stopped: 'stop before start' },
    running: {
      paused: 'pause',
      stopping: 'stop, kill, timeout, budget or a node failed while others still ran',
      completed: 'the last node is done',
      failed: 'a node failed for good',
    },
    paused: { running: 'resume', stopping: 'stop' },
    stopping: {
      stopped: 'every agent proved dead',
      failed: 'a node failed for good, or an agent could not be proved dead within the limit',
    },
    stopped: { running: 'retry (epoch + 1)' },
    failed: { running: 'retry (epoch + 1)' },
    completed: {},
  },
};

export const AGENT_MACHINE: StateMachine<AgentState> = {
  entity: 'agent',
  initial: 'spawning',
  ended: ['completed', 'failed', 'killed'],
  transitions: {
    spawning: {
      running: 'its process started',
      failed: 'it could not be spawned',
      killed: 'killed before it ran',
    },
    running: {
      completed: 'exit 0',
      failed: 'another exit, its timeout, or its worker lost',
      killed: 'an order, every process proved dead',
    },
    completed: {},
    failed: {},
    killed: {},
  },
};

export const NODE_MACHINE: StateMachine<NodeState> = {
  entity: 'node',
  initial: 'pending',
  ended: ['completed', 'failed', 'skipped', 'cancelled'],
  transitions: {
    pending: {
      ready: 'its dependencies are done',
      skipped: 'a dependency failed for good',
      cancelled: 'the execution stops',
    },
    ready: {
      running: 'claimed by a worker',
      cancelled: 'the execution stops',
      skipped: 'a dependency failed for good',
    },
    running: {
      completed: 'its agent completed',
      failed: 'its last attempt failed',
      ready: 'another attempt',
      suspended: 'it parked itself',
      cancelled: 'its agent was killed',
    },
    suspended: { ready: 'signalled', failed: 'too old', cancelled: 'the execution stops' },
    completed: {},
    failed: { pending: 'retry of the execution' },
    skipped: { pending: 'retry of the execution' },
    cancelled: { pending: 'retry of the execution' },
  },
};

export const WORKER_MACHINE: StateMachine<WorkerState> = {
  entity: 'worker',
  initial: 'idle',
  ended: ['stopped'],
  transitions: {
    idle: { running: 'registered', stopped: 'failed to start, or lost' },
    running: { draining: 'drain', stopped: 'its lease ran out' },
    draining: { stopped: 'drained, forced, or its lease ran out' },
    stopped: {},
  },
};

export const ORDER_MACHINE: StateMachine<OrderState> = {
  entity: 'order',
  initial: 'open',
  ended: ['complete'],
  transitions: {
    open: {
      complete: 'every target is confirmed',
      incomplete: 'the limit passed with targets unconfirmed',
    },
    incomplete: { complete: 'the missing targets were confirmed later' },
    complete: {},
  },
};

export const QUESTION_MACHINE: StateMachine<QuestionState> = {
  entity: 'question',
  initial: 'open',
  ended: ['answered', 'denied', 'cancelled'],
  transitions: {
    open: {
      answered: 'a person chose',
      denied: 'a person denied it, or its deadline passed',
      cancelled: 'its attempt ended, its execution stops, or it was asked again in other words',
    },
    answered: {},
    denied: {},
    cancelled: {},
  },
};

/** Every table, by entity. */
export const MACHINES = {
  execution: EXECUTION_MACHINE,
  agent: AGENT_MACHINE,
  node: NODE_MACHINE,
  worker: WORKER_MACHINE,
  order: ORDER_MACHINE,
  question: QUESTION_MACHINE,
} as const;

export type Entity = keyof typeof MACHINES;
