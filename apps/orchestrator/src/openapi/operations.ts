import { AGENT, EXECUTION, EXECUTION_FRAMES, FLEET_FRAMES, LOG_FRAMES } from './samples';
import type { AnswerName, Operation } from './operation.types';

const one = (name: AnswerName): { one: AnswerName } => ({ one: name });
const page = (name: AnswerName): { page: AnswerName } => ({ page: name });
const items = (name: AnswerName): { items: AnswerName } => ({ items: name });
const says = (words: string): { media: 'text/plain'; says: string } => ({ media: 'text/plain', says: words });
const note = { note: { note: 'driver mended' } };
const SUBMIT_CODES = [
  'INVALID_SPEC',
  'IDEMPOTENCY_CONFLICT',
  'LATCHED',
  'RATE_LIMITED',
  'LIMITED',
  'SERVER_FULL',
] as const;

/** Every route, by its method and path. A row that is missing, or that no route has, fails a test. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  'GET /': {
    id: 'root',
    summary: 'A few lines of text about this server.',
    answers: { 200: says('For a person with a browser.') },
  },
  'GET /health': {
    id: 'health',
    summary: '200 while running or draining.',
    answers: { 200: one('Health'), 503: one('Health') },
  },
  'GET /health/live': {
    id: 'live',
    summary: '200 while the process answers.',
    answers: { 200: one('Health') },
  },
  'GET /health/ready': {
    id: 'ready',
    summary: '200 while running. For load balancers.',
    answers: { 200: one('Health'), 503: one('Health') },
  },
  'GET /api/openapi.json': {
    id: 'openapi',
    summary: 'This document.',
    answers: { 200: { media: 'application/json', says: 'An OpenAPI 3.1 document.' } },
  },
  'GET /api/docs': {
    id: 'docs',
    summary: 'This document as a page.',
    answers: { 200: { media: 'text/html', says: 'A page without scripts.' } },
  },
  'GET /metrics': {
    id: 'metrics',
    summary: "Metrics in Prometheus' text format.",
    answers: { 200: says("Prometheus' text format.") },
  },

  'POST /api/executions': {
    id: 'createExecution',
    summary: 'Creates an execution and starts it; it is durable when the call answers.',
    body: 'ExecutionSpec',
    examples: EXECUTION,
    headers: ['Idempotency-Key', 'traceparent'],
    answers: { 201: one('ExecutionRecord'), 200: one('ExecutionRecord') },
    codes: SUBMIT_CODES,
    names: { kind: 'execution', at: '/id' },
  },
  'GET /api/executions': {
    id: 'executions',
    summary: 'Lists executions, newest first.',
    answers: { 200: page('ExecutionRecord') },
    names: { kind: 'execution', at: '/items/0/id' },
  },
  'GET /api/executions/:id': {
    id: 'execution',
    summary: "One execution's record.",
    answers: { 200: one('ExecutionRecord') },
  },
  'DELETE /api/executions/:id': {
    id: 'deleteExecution',
    summary: 'Removes an ended execution with everything about it; receipts and the audit log stay.',
    answers: { 200: one('DeletedExecution') },
    codes: ['NOT_ENDED', 'NOT_PROVED', 'ORDER_OPEN'],
  },
  'GET /api/executions/:id/nodes': {
    id: 'nodes',
    summary: 'Its nodes, in the order of the spec.',
    answers: { 200: page('NodeRecord') },
  },
  'GET /api/executions/:id/nodes/:nodeId': {
    id: 'node',
    summary: 'One node, with its result if it has one.',
    answers: { 200: one('NodeDetail') },
  },
  'GET /api/executions/:id/events': {
    id: 'events',
    summary: 'Its events, from the first or from after Last-Event-ID.',
    headers: ['Last-Event-ID'],
    answers: { 200: { frames: EXECUTION_FRAMES } },
  },
  'GET /api/events': {
    id: 'allEvents',
    summary: 'The events of all executions: from now on, or from after Last-Event-ID.',
    headers: ['Last-Event-ID'],
    answers: { 200: { frames: FLEET_FRAMES } },
  },
  'POST /api/executions/:id/start': {
    id: 'startExecution',
    summary: 'Starts an idle execution.',
    answers: { 200: one('ExecutionRecord') },
    codes: ['INVALID_TRANSITION', 'LATCHED'],
  },
  'POST /api/executions/:id/pause': {
    id: 'pauseExecution',
    summary: 'No node of it starts any more. A freeze also stops its running agents where they stand.',
    body: 'PauseRequest',
    examples: { drain: { mode: 'drain', note: 'look at it' }, freeze: { mode: 'freeze' } },
    answers: { 200: one('Paused') },
    codes: ['INVALID_TRANSITION'],
  },
  'POST /api/executions/:id/resume': {
    id: 'resumeExecution',
    summary: 'Resumes a paused execution where it stood.',
    answers: { 200: one('Paused') },
    codes: ['INVALID_TRANSITION', 'LATCHED'],
  },
  'POST /api/executions/:id/retry': {
    id: 'retryExecution',
    summary: 'Continues a stopped or failed execution; completed nodes keep their results.',
    body: 'RetryRequest',
    examples: { budget: { maxCostUsd: 5 } },
    answers: { 200: one('ExecutionRecord') },
    codes: ['INVALID_TRANSITION', 'NOT_PROVED', 'BUDGET_SPENT', 'LATCHED'],
  },
  'POST /api/executions/:id/signals/:name': {
    id: 'signalExecution',
    summary: 'Wakes the nodes that wait for that signal, or keeps it for the first that will.',
    body: 'SignalRequest',
    examples: { paid: { payload: { invoice: 77 } } },
    answers: { 200: one('Signalled') },
    codes: ['INVALID_TRANSITION', 'TOO_MANY_SIGNALS'],
  },
  'POST /api/executions/:id/stop': {
    id: 'stopExecution',
    summary: 'Stops it and waits for its end, proved; wait=0 answers once the order is durable.',
    body: 'StopRequest',
    examples: { note: { note: 'wrong input', mode: 'immediate' } },
    answers: { 200: one('StopResponse'), 202: one('StopAccepted') },
  },
  'POST /api/execute/stop': {
    id: 'stopByBody',
    summary: 'The same with the id in the body.',
    body: 'StopByIdRequest',
    examples: { abort: { executionId: 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ', reason: 'user_abort' } },
    answers: { 200: one('StopResponse') },
  },

  'POST /api/agents': {
    id: 'createAgent',
    summary: 'One agent: an execution of one node.',
    body: 'AgentSpec',
    examples: AGENT,
    headers: ['Idempotency-Key', 'traceparent'],
    answers: { 201: one('ExecutionRecord'), 200: one('ExecutionRecord') },
    codes: SUBMIT_CODES,
    names: { kind: 'execution', at: '/id' },
  },
  'GET /api/agents': {
    id: 'agents',
    summary: 'Agents of all workers, newest first.',
    answers: { 200: page('AgentRecord') },
    names: { kind: 'agent', at: '/items/0/id' },
  },
  'GET /api/agents/:id': {
    id: 'agent',
    summary: 'One attempt: its state, process, cost and, once ended, the evidence of its end.',
    answers: { 200: one('AgentRecord') },
  },
  'GET /api/agents/:id/logs': {
    id: 'logs',
    summary: "The agent's output, its beginning and its end; follow=1 streams it.",
    headers: ['Last-Event-ID'],
    answers: { 200: [one('AgentLogs'), { frames: LOG_FRAMES }] },
  },
  'POST /api/agents/:id/kill': {
    id: 'killAgent',
    summary: 'Kills one agent and waits for the receipt.',
    body: 'StopRequest',
    examples: { now: { mode: 'immediate' } },
    answers: { 200: one('Receipt') },
  },

  'POST /api/killswitch': {
    id: 'kill',
    summary: 'Kills, freezes or thaws a scope and waits for the receipt.',
    body: 'KillRequest',
    examples: { pool: { scope: { type: 'pool', pool: 'gpu' }, latch: true, note: 'bad driver' } },
    answers: { 200: { one: ['Receipt', 'KillPlan'] }, 202: one('Receipt') },
    codes: ['NOT_FOUND', 'TOO_MANY_LATCHES'],
    names: { kind: 'order', at: '/orderId' },
  },
  'GET /api/killswitch': {
    id: 'receipts',
    summary: 'Receipts, newest first.',
    answers: { 200: page('Receipt') },
    names: { kind: 'order', at: '/items/0/orderId' },
  },
  'GET /api/killswitch/:id': {
    id: 'receipt',
    summary: 'One receipt; wait=1 answers when it is complete or its limit has passed.',
    answers: { 200: one('Receipt') },
  },
  'POST /api/killswitch/:id/release': {
    id: 'releaseOrder',
    summary: 'Releases the latch that was engaged with the order; 202: another person is needed.',
    body: 'NoteRequest',
    examples: note,
    answers: { 200: one('Released'), 202: one('Released') },
  },
  'POST /api/killswitch/:id/close': {
    id: 'closeOrder',
    summary: 'A person declares that the missing targets will not be confirmed.',
    body: 'NoteRequest',
    examples: { note: { note: 'the host is scrapped' } },
    answers: { 200: one('Receipt') },
  },
  'POST /api/killswitch/drill': {
    id: 'drill',
    summary: 'Kills canary trees that resist, over the real path.',
    body: 'DrillRequest',
    examples: { every: {} },
    answers: { 200: one('DrillReport') },
  },
  'GET /api/killswitch/drill': {
    id: 'drills',
    summary: 'The last drill of each worker, and whether it is overdue.',
    answers: { 200: items('DrillStatus') },
  },
  'POST /api/killswitch/armed': {
    id: 'armed',
    summary: 'Asks every worker whether it could stop now.',
    answers: { 200: one('ArmedReport') },
  },
  'POST /api/latches': {
    id: 'engageLatch',
    summary: 'Engages a latch without a kill: nothing in its scope starts any more.',
    body: 'LatchRequest',
    examples: { pool: { scope: { type: 'pool', pool: 'gpu' }, note: 'bad driver' } },
    answers: { 201: one('Latch') },
    codes: ['NOT_FOUND', 'TOO_MANY_LATCHES'],
    names: { kind: 'latch', at: '/id' },
  },
  'GET /api/latches': {
    id: 'latches',
    summary: 'The engaged latches, oldest first.',
    answers: { 200: items('Latch') },
    names: { kind: 'latch', at: '/items/0/id' },
  },
  'GET /api/latches/:id': {
    id: 'latch',
    summary: 'One latch, engaged or released.',
    answers: { 200: one('Latch') },
  },
  'POST /api/latches/:id/release': {
    id: 'releaseLatch',
    summary: 'Releases it, with the reason; 202: another person is needed.',
    body: 'NoteRequest',
    examples: note,
    answers: { 200: one('Released'), 202: one('Released') },
  },

  'GET /api/asks': {
    id: 'asks',
    summary: 'The open questions of agents, the next deadline first, or all of one execution.',
    answers: { 200: page('QuestionRecord') },
    codes: ['NOT_FOUND'],
    names: { kind: 'question', at: '/items/0/id' },
  },
  'GET /api/asks/:id': {
    id: 'ask',
    summary: 'One question.',
    answers: { 200: one('QuestionRecord') },
    codes: ['NOT_FOUND'],
  },
  'POST /api/asks/:id': {
    id: 'answer',
    summary: 'Answers it, for the words with that hash only.',
    body: 'AnswerRequest',
    examples: { yes: { choice: 'yes', hash: '0'.repeat(64), reason: 'the build is green' } },
    answers: { 200: one('QuestionRecord') },
    codes: ['NOT_FOUND', 'QUESTION_CLOSED', 'QUESTION_CHANGED'],
  },

  'GET /api/workers': {
    id: 'workers',
    summary: 'Workers that are not stopped; lost=1: those whose lease ran out lately.',
    answers: { 200: items('WorkerRecord') },
  },
  'GET /api/queues': {
    id: 'queues',
    summary: 'The queue of every pool, by name.',
    answers: { 200: items('QueueRecord') },
  },
  'GET /api/queues/:pool': {
    id: 'queue',
    summary: "One pool, with BullMQ's own counts.",
    answers: { 200: one('QueueDetail') },
  },
  'POST /api/queues/:pool/pause': {
    id: 'pauseQueue',
    summary: 'Workers claim no further attempt of the pool; running agents continue.',
    body: 'QueuePauseRequest',
    examples: { note: { note: 'bad driver' } },
    answers: { 200: one('QueuePaused') },
    codes: ['TOO_MANY_LATCHES'],
  },
  'POST /api/queues/:pool/resume': {
    id: 'resumeQueue',
    summary: "Workers claim the pool's attempts again.",
    body: 'QueuePauseRequest',
    examples: note,
    answers: { 200: one('QueuePaused') },
  },
  'POST /api/queues/:pool/remove': {
    id: 'removeFromQueue',
    summary: 'Removes waiting attempts, at most 5,000 a call.',
    body: 'RemoveRequest',
    examples: { team: { selector: 'team=data', note: 'the import was wrong' } },
    answers: { 200: one('QueueRemoval') },
  },
  'GET /api/limits': {
    id: 'limits',
    summary: "The fleet's limits, with their present use.",
    answers: { 200: one('LimitsRecord') },
  },
  'PUT /api/limits': {
    id: 'setLimits',
    summary: 'Sets all limits, in place of those before.',
    body: 'LimitsRequest',
    examples: { tenant: { limits: [{ by: 'label.tenant', running: 3 }], note: 'the new plan' } },
    answers: { 200: one('LimitsRecord') },
  },
  'GET /api/webhooks': {
    id: 'webhooks',
    summary: 'The endpoints that are told of events, by name, without secrets.',
    answers: { 200: items('WebhookRecord') },
  },
  'GET /api/webhooks/:name/deliveries': {
    id: 'webhookDeliveries',
    summary: 'The newest deliveries to one endpoint, the newest first.',
    answers: { 200: items('WebhookDelivery') },
    codes: ['NOT_FOUND'],
  },
  'GET /api/quarantine': {
    id: 'quarantine',
    summary: 'Stored records that cannot be read, oldest first.',
    answers: { 200: items('QuarantinedRecord') },
  },
  'GET /api/audit': {
    id: 'audit',
    summary: 'The audit log of the killswitch, newest first.',
    answers: { 200: page('AuditEntry') },
  },
  'GET /api/audit/verify': {
    id: 'verifyAudit',
    summary: "Computes the log's chain of hashes again and compares every kept receipt with it.",
    answers: { 200: one('AuditVerdict') },
  },

  'GET /api/tokens': {
    id: 'tokens',
    summary: 'All kept tokens, by name.',
    answers: { 200: items('TokenRecord') },
    names: { kind: 'token', at: '/items/0/name' },
  },
  'POST /api/tokens': {
    id: 'createToken',
    summary: 'Makes a token. Only this answer has its secret.',
    body: 'TokenRequest',
    examples: { pager: { name: 'pager', role: 'stopper', selector: 'tenant=a', expiresInMs: 86_400_000 } },
    answers: { 201: one('CreatedToken') },
    codes: ['TOKEN_EXISTS', 'TOO_MANY_TOKENS'],
    names: { kind: 'token', at: '/token/name' },
  },
  'POST /api/tokens/:name/revoke': {
    id: 'revokeToken',
    summary: 'No orchestrator accepts the token from here on.',
    answers: { 200: one('RevokedToken') },
    codes: ['NOT_FOUND'],
  },
};
