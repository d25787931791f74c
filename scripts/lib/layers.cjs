'use strict';
/**
 * The libraries of ours that each library may import, and what each one may know. `npm run arrows` checks the first
 * (.dependency-cruiser.cjs); docs/architecture.md has both as a picture and a table, written by scripts/generate-docs.mjs.
 */
module.exports = {
  contracts: {
    imports: [],
    knows: 'the types, and which moves are legal; no I/O, no Nest, no `node:*`',
  },
  valkey: {
    imports: ['contracts'],
    knows: 'how to reach the server and run scripts; nothing of BullMQ',
  },
  'local-server': {
    imports: ['valkey', 'contracts'],
    knows: 'server programs and their processes; nothing of their data',
  },
  lifecycle: {
    imports: ['valkey', 'contracts'],
    knows: 'state changes; nothing of queues or processes',
  },
  dispatch: {
    imports: ['lifecycle', 'valkey', 'contracts'],
    knows: 'BullMQ, and it alone',
  },
  spawner: {
    imports: ['lifecycle', 'valkey', 'contracts'],
    knows: 'processes; nothing of queues, graphs or orders beyond their type',
  },
  executions: {
    imports: ['dispatch', 'lifecycle', 'valkey', 'contracts'],
    knows: 'graphs; nothing of processes',
  },
  approvals: {
    imports: ['killswitch', 'lifecycle', 'valkey', 'contracts'],
    knows: 'questions and answers; nothing of HTTP',
  },
  killswitch: {
    imports: ['executions', 'spawner', 'dispatch', 'lifecycle', 'service', 'valkey', 'contracts'],
    knows: 'orders; nothing of BullMQ or HTTP',
  },
  orchestrator: {
    imports: [
      'approvals',
      'killswitch',
      'executions',
      'dispatch',
      'lifecycle',
      'service',
      'valkey',
      'contracts',
    ],
    knows: 'the background work of an orchestrator; nothing of HTTP',
  },
  access: {
    imports: ['killswitch', 'executions', 'dispatch', 'lifecycle', 'valkey', 'contracts'],
    knows: 'tokens, and the owner of an execution, agent, order or latch; nothing of HTTP',
  },
  worker: {
    imports: [
      'killswitch',
      'executions',
      'spawner',
      'dispatch',
      'lifecycle',
      'service',
      'valkey',
      'contracts',
    ],
    knows: 'the parts of a worker node; nothing of HTTP',
  },
  service: {
    imports: ['contracts'],
    knows: 'the process that it runs in: the only library that does',
  },
  metrics: {
    imports: ['lifecycle', 'contracts'],
    knows: 'how to read a service without asking it to do anything',
  },
  tracing: {
    imports: ['killswitch', 'executions', 'spawner', 'lifecycle', 'valkey', 'contracts'],
    knows: 'records and events as spans, and the collector; nothing waits for it',
  },
  webhooks: {
    imports: ['dispatch', 'service', 'valkey', 'contracts'],
    knows: 'events of the control slot and the endpoints that are told; nothing of what the events mean',
  },
  client: {
    imports: ['contracts'],
    knows: 'HTTP only',
  },
};
