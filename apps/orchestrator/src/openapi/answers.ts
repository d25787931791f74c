import {
  AGENT_MACHINE,
  CONTAINMENTS,
  EXECUTION_MACHINE,
  ID_PATTERNS,
  NODE_MACHINE,
  QUESTION_MACHINE,
  ROLES,
  STOP_REASONS,
  WORKER_MACHINE,
  ISOLATIONS,
  GRADES,
  statesOf,
  type StateMachine,
} from '#libs/contracts';
import { z } from 'zod';
import { flag, requestRate, scope, text, whole, time, warning } from './answer-parts';
import { receipt, latch, stopReport } from './order-answers';

/*
 * The schemas of answers about executions, agents and the fleet. The types are in libs/contracts; the compiler compares both
 * (answers.spec.ts), and openapi.test.ts compares real answers with the document.
 */

const states = <S extends string>(machine: StateMachine<S>) => z.enum(statesOf(machine) as [S, ...S[]]);
const reason = z.enum(STOP_REASONS);
const labels = z.record(z.string(), z.string());

const recordedError = z.object({ code: text(), message: text(), nodeId: text().optional() });

const executionRecord = z.object({
  id: z.string().regex(ID_PATTERNS.execution),
  name: text(),
  state: states(EXECUTION_MACHINE),
  version: whole().describe('Rises with every write.'),
  epoch: whole().describe('Rises with every retry.'),
  labels,
  onFailure: z.enum(['stop', 'continue']),
  createdAt: time(),
  startedAt: time().optional(),
  completedAt: time().optional(),
  stoppedAt: time().optional(),
  deadlineAt: time().optional(),
  deadlineLeftMs: whole().optional().describe('The time that was left to its deadline at the pause.'),
  frozen: flag().optional().describe('Paused by a freeze: its agents stand still.'),
  timeoutMs: whole().optional(),
  graceMs: whole().optional(),
  maxCostUsd: z.number().optional(),
  softCostUsd: z.number().optional(),
  maxTokens: whole().optional(),
  softTokens: whole().optional(),
  reason: reason.optional(),
  note: text().optional().describe("A person's note."),
  actor: text().optional().describe('The creator; after a stop, the author of the stop.'),
  actorRole: z.enum(ROLES).optional(),
  requestId: text().optional(),
  error: recordedError.optional(),
  orderId: text().optional(),
  idempotencyKey: text().optional(),
  costUsd: z.number(),
  costEstimated: z.literal(true).optional(),
  tokens: whole().optional(),
  nodes: z.object({
    total: whole(),
    pending: whole(),
    ready: whole(),
    running: whole(),
    suspended: whole(),
    completed: whole(),
    failed: whole(),
    skipped: whole(),
    cancelled: whole(),
  }),
  live: whole().describe('Agents not yet ended.'),
});

const nodeRecord = z.object({
  id: text(),
  index: whole(),
  pool: text(),
  state: states(NODE_MACHINE),
  attempt: whole(),
  agentId: text().optional(),
  error: recordedError.optional(),
  reason: reason.optional(),
  limit: text().optional().describe('The full limit for which it waits, such as label.tenant=acme.'),
  waitsFor: z.object({ signal: text(), untilAt: time() }).optional(),
});

const agentRecord = z.object({
  id: z.string().regex(ID_PATTERNS.agent),
  executionId: text(),
  nodeId: text(),
  state: states(AGENT_MACHINE),
  version: whole(),
  epoch: whole().describe('The fencing number of this attempt.'),
  born: whole().optional(),
  attempt: whole(),
  previousId: text().optional(),
  priorAttempts: whole().optional(),
  isRecovery: flag().optional(),
  owner: text().describe('The id of its worker.'),
  unreadable: z.literal(true).optional(),
  pool: text(),
  graceMs: whole().optional(),
  labels: labels.optional(),
  frozen: flag().optional(),
  frozenBy: z.array(text()).optional(),
  pid: whole().optional(),
  pidStartTime: text().optional(),
  containment: z.enum(CONTAINMENTS).optional(),
  createdAt: time(),
  startedAt: time().optional(),
  completedAt: time().optional(),
  stoppedAt: time().optional(),
  exitCode: whole().optional(),
  signal: text().optional(),
  reason: reason.optional(),
  error: recordedError.optional(),
  orderId: text().optional(),
  actor: text().optional(),
  costUsd: z.number(),
  costEstimated: z.literal(true).optional(),
  tokens: whole().optional(),
  progress: z.unknown().optional().describe('The newest progress; not in lists.'),
  checkpoint: z.unknown().optional().describe('The newest checkpoint; not in lists.'),
  checkpointOf: text().optional(),
  badLines: whole().optional(),
  dropped: z
    .object({
      events: whole().optional(),
      progress: whole().optional(),
      checkpoints: whole().optional(),
      lines: whole().optional(),
      bytes: whole().optional(),
    })
    .optional(),
  report: stopReport.optional(),
});

const outputSize = z.object({ lines: whole(), bytes: whole() });
const logLine = z.object({
  id: text(),
  at: time(),
  n: whole().describe('Counts from 1 over the whole output.'),
  stream: z.enum(['stdout', 'stderr']),
  line: text(),
  base64: text().optional().describe('The bytes, if they are not UTF-8.'),
  partial: z.literal(true).optional(),
  skipped: outputSize.optional(),
});
const logFile = z.object({ workerId: text(), host: text(), path: text(), lostBytes: whole().optional() });
const agentLogs = z.object({
  lines: z.array(logLine),
  total: outputSize,
  skipped: outputSize,
  ended: flag(),
  file: logFile.optional(),
});

const workerRecord = z.object({
  id: z.string().regex(ID_PATTERNS.worker),
  state: states(WORKER_MACHINE),
  version: whole(),
  host: text(),
  pid: whole(),
  bootId: text(),
  pools: z.array(text()),
  handlers: z.array(text()).optional(),
  concurrency: whole(),
  containment: z.enum(CONTAINMENTS),
  isolation: z.enum(ISOLATIONS),
  grade: z.enum(GRADES).optional(),
  httpPort: whole().optional(),
  createdAt: time(),
  startedAt: time().optional(),
  stoppedAt: time().optional(),
  lastHeartbeatAt: time().optional(),
  leaseExpiresAt: time().optional(),
  running: whole(),
  reason: text().optional(),
});

const event = z.object({
  id: text(),
  seq: whole().describe('Counts per execution without a gap.'),
  type: text().describe('execution.running, node.completed, agent.killed and so on.'),
  entity: z.enum(['execution', 'agent', 'node', 'worker', 'order', 'question', 'latch', 'limits']),
  executionId: text().optional(),
  nodeId: text().optional(),
  agentId: text().optional(),
  workerId: text().optional(),
  from: text().optional(),
  to: text().optional(),
  at: time(),
  attempt: whole().optional(),
  reason: text().optional(),
  actor: text().optional().describe('Who did it, where a request did.'),
  error: recordedError.optional(),
  data: z.unknown().optional(),
});

const question = z.object({
  id: text(),
  executionId: text(),
  nodeId: text(),
  agentId: text(),
  attempt: whole(),
  epoch: whole(),
  state: states(QUESTION_MACHINE),
  question: text(),
  choices: z.array(text()),
  detail: z.unknown().optional(),
  hash: text().describe('An answer names it, so that it is valid for these words only.'),
  key: text().optional(),
  whileWaiting: z.literal('freeze').optional(),
  createdAt: time(),
  deadlineAt: time(),
  answer: text().optional(),
  why: z.enum(['person', 'deadline', 'ended', 'changed']).optional(),
  by: text().optional(),
  role: z.enum(ROLES).optional(),
  requestId: text().optional(),
  reason: text().optional(),
  endedAt: time().optional(),
  next: text().optional(),
});

const queueFields = {
  pool: text(),
  waiting: whole(),
  delayed: whole(),
  active: whole(),
  oldestMs: whole().optional(),
  workers: whole().describe('Running workers of the pool.'),
  pause: z.object({ latchId: text(), by: text(), since: time(), note: text().optional() }).optional(),
  latches: z.array(text()).describe('Latches and freezes that cover the whole pool.'),
};
const queueRecord = z.object(queueFields);

const token = z.object({
  name: text(),
  role: z.enum(ROLES),
  selector: text().optional(),
  rate: requestRate.optional().describe('Absent: BELAY_HTTP_RATE.'),
  createdAt: time(),
  createdBy: text(),
  expiresAt: time().optional(),
  revokedAt: time().optional(),
  revokedBy: text().optional(),
  lastUsedAt: time().optional().describe('To the minute.'),
});

/** The schemas of answers by the names of their types in libs/contracts. */
export const ANSWERS = {
  ExecutionRecord: executionRecord,
  DeletedExecution: z.object({ executionId: text(), state: states(EXECUTION_MACHINE) }),
  NodeRecord: nodeRecord,
  NodeDetail: nodeRecord.extend({ result: z.unknown().optional() }),
  Signalled: z.object({ executionId: text(), signal: text(), woken: z.array(text()), kept: flag() }),
  StopResponse: z.object({
    status: states(EXECUTION_MACHINE),
    executionId: text(),
    reason: reason.optional(),
    finalCostUsd: z.number(),
    costEstimated: flag(),
    finalTokens: whole().optional(),
    stoppedAt: time().optional(),
    summary: z.object({
      nodesCompleted: whole(),
      nodesFailed: whole(),
      nodesTotal: whole(),
      durationMs: z.number(),
    }),
    receipt: receipt.optional(),
  }),
  StopAccepted: z.object({
    orderId: text().optional(),
    executionId: text(),
    status: states(EXECUTION_MACHINE),
  }),
  Paused: z.object({ execution: executionRecord, receipt: receipt.optional() }),
  AgentRecord: agentRecord,
  AgentLogs: agentLogs,
  LogLine: logLine,
  LogFile: logFile,
  OutputSize: outputSize,
  WorkerRecord: workerRecord,
  BelayEvent: event,
  QuestionRecord: question,
  QueueRecord: queueRecord,
  QueueDetail: queueRecord.extend({
    bullmq: z.record(z.string(), z.number()).describe("BullMQ's own counts of its jobs."),
  }),
  QueuePaused: z.object({ queue: queueRecord, already: flag(), warning: warning.optional() }),
  QueueRemoval: z.object({ removed: whole(), more: flag() }),
  LimitsRecord: z.object({
    version: whole(),
    items: z.array(z.object({ by: text(), running: whole().optional(), perMinute: whole().optional() })),
    held: whole(),
    waiting: whole(),
  }),
  QuarantinedRecord: z.object({
    key: text(),
    field: text().optional(),
    executionId: text().optional(),
    problem: text(),
    cut: text(),
    firstSeenAt: time(),
  }),
  TokenRecord: token,
  CreatedToken: z.object({
    token,
    secret: text().describe('The only answer that has it.'),
    replicated: flag().optional(),
  }),
  RevokedToken: z.object({ token, already: flag(), replicated: flag().optional() }),
  Receipt: receipt,
  Latch: latch,
  Released: z.object({
    latch,
    already: flag(),
    pending: z
      .object({ needs: whole(), approvedBy: text(), expiresAt: time() })
      .optional()
      .describe('It stays engaged until another person releases it.'),
    receipt: receipt.optional(),
  }),
  ScopeWarning: warning,
  OrderScope: scope,
};
