import { CONTAINMENTS, GRADES, ISOLATIONS, ORDER_KINDS, ROLES, STOP_REASONS } from '#libs/contracts';
import { z } from 'zod';
import { flag, requestRate, scope, text, time, warning, whole } from './answer-parts';

/* The schemas of answers about orders, latches, drills and the audit log, kept true as those of answers.ts are. */

const outcome = z.enum(['pending', 'killed', 'frozen', 'thawed', 'already-ended', 'failed', 'unconfirmed']);
const role = z.enum(ROLES).optional();
const requestId = text().optional().describe('The HTTP request: x-request-id of its answer.');
const mode = z.enum(['graceful', 'immediate']);
const grade = z.enum(GRADES);

const seenProcess = z.object({
  pid: whole(),
  startTime: text().describe('Clock ticks since boot; with the pid it names one process.'),
  command: text().optional(),
});

/** The report of a worker on the end of one process tree. */
export const stopReport = z.object({
  containment: z.enum(CONTAINMENTS),
  isolation: z.enum(ISOLATIONS).optional(),
  proved: flag().describe('The whole tree was seen dead.'),
  processes: z.array(seenProcess),
  signals: z.array(
    z.object({
      signal: text(),
      to: z.enum(['group', 'cgroup', 'namespace', 'process']),
      pid: whole().optional(),
      afterMs: z.number().optional(),
    }),
  ),
  evidence: z.array(
    z.object({
      kind: z.enum([
        'exit',
        'cgroup-empty',
        'namespace-ended',
        'descent-empty',
        'uid-empty',
        'sweep-empty',
        'not-started',
        'lease-expired',
      ]),
      afterMs: z.number().optional(),
      detail: text().optional(),
    }),
  ),
  survivors: z.array(seenProcess),
  escalated: flag().describe('SIGKILL was needed.'),
  signalledAfterMs: z.number().optional(),
  firstExitAfterMs: z.number().optional(),
  provedAfterMs: z.number().optional(),
});

/** A latch. */
export const latch = z.object({
  id: text(),
  kind: z.enum(['latch', 'freeze', 'pause']),
  scope,
  requires: z
    .array(
      z.union([
        z.object({ key: text(), op: z.enum(['in', 'notin']), values: z.array(text()) }),
        z.object({ key: text(), op: z.literal('exists') }),
        z.object({ key: text(), op: z.literal('absent') }),
      ]),
    )
    .optional(),
  orderId: text().optional(),
  note: text().optional(),
  by: text(),
  role,
  requestId,
  releaseNeeds: whole().optional().describe('How many people must release it; absent: one.'),
  approval: z
    .object({ by: text(), role, requestId, note: text(), at: time(), expiresAt: time() })
    .optional()
    .describe('The first of two releases.'),
  engagedAt: time(),
  replicated: flag().optional(),
  warning: warning.optional(),
  releasedAt: time().optional(),
  releasedBy: text().optional(),
  releaseNote: text().optional(),
  thawOrderId: text().optional(),
});

const order = z.object({
  id: text(),
  seq: text(),
  kind: z.enum(ORDER_KINDS),
  scope,
  mode,
  graceMs: whole().optional(),
  reason: z.enum(STOP_REASONS),
  note: text().optional(),
  by: text(),
  role,
  requestId,
  latchId: text().optional(),
  releaseNeeds: whole().optional(),
  placedAt: time(),
  reach: z.record(z.string(), z.number()).optional(),
});

/** The evidence that an order was carried out. */
export const receipt = z.object({
  orderId: text(),
  order,
  state: z.enum(['open', 'complete', 'incomplete']),
  complete: flag().describe('Every target is confirmed.'),
  resolvedAt: time().optional(),
  completedAt: time().optional(),
  replicated: flag().optional().describe('A replica had the order in time; absent without replicas.'),
  executions: z.array(text()).optional(),
  warning: warning.optional(),
  latch: latch.optional(),
  closed: z.object({ at: time(), by: text(), note: text() }).optional(),
  digest: text().optional(),
  totals: z.object({
    total: whole(),
    killed: whole(),
    frozen: whole(),
    thawed: whole(),
    alreadyEnded: whole(),
    failed: whole(),
    unconfirmed: whole(),
    pending: whole(),
  }),
  targets: z.array(
    z.object({
      agentId: text(),
      executionId: text(),
      nodeId: text(),
      workerId: text(),
      outcome,
      detail: text().optional(),
      latency: z
        .object({
          signalledMs: z.number().optional(),
          firstExitMs: z.number().optional(),
          provedMs: z.number().optional(),
        })
        .optional(),
      report: stopReport.optional(),
      grade: grade.optional(),
    }),
  ),
  grade: grade.optional().describe('The lowest grade of its targets.'),
  missing: z.array(z.object({ agentId: text(), workerId: text() })),
});

const drillResult = z.object({
  workerId: text(),
  host: text(),
  at: time(),
  by: text(),
  role,
  requestId,
  passed: flag(),
  detail: text().optional(),
  executionId: text().optional(),
  orderId: text().optional(),
  tookMs: z.number().optional(),
  canaries: z.array(
    z.object({
      name: text(),
      outcome: z.union([outcome, z.literal('not-started')]),
      escalated: flag().optional(),
      provedMs: z.number().optional(),
    }),
  ),
  attacks: z
    .array(
      z.object({
        name: text(),
        outcome: z.enum(['refused', 'named', 'broken', 'absent']),
        detail: text().optional(),
      }),
    )
    .optional(),
});

/** The schemas of answers about orders, by the names of their types. */
export const ORDER_ANSWERS = {
  KillPlan: z.object({
    targets: z.array(z.object({ agentId: text(), executionId: text(), nodeId: text(), workerId: text() })),
    executions: z.array(text()),
    warning: warning.optional(),
  }),
  DrillReport: z.object({ passed: flag(), items: z.array(drillResult) }),
  DrillStatus: z.object({
    workerId: text(),
    last: drillResult.optional(),
    hostile: drillResult.optional(),
    overdue: flag(),
  }),
  ArmedReport: z.object({
    armed: flag(),
    nonce: text(),
    workers: z.array(
      z.object({
        workerId: text(),
        armed: flag(),
        afterMs: z.number().optional(),
        containment: z.enum(CONTAINMENTS).optional(),
        isolation: z.enum(ISOLATIONS).optional(),
        guardian: flag().optional(),
        running: whole().optional(),
        detail: text().optional(),
      }),
    ),
  }),
  AuditEntry: z.object({
    id: text(),
    n: whole().describe('Counts from 1, without a gap.'),
    act: text(),
    at: time(),
    by: text().optional(),
    role,
    requestId,
    note: text().optional(),
    approvedBy: text().optional(),
    reason: text().optional(),
    orderId: text().optional(),
    latchId: text().optional(),
    workerId: text().optional(),
    agentId: text().optional(),
    kind: z.enum([...ORDER_KINDS, 'latch', 'pause']).optional(),
    scope: scope.optional(),
    pool: text().optional(),
    selector: text().optional(),
    questionId: text().optional(),
    question: text().optional(),
    choices: z.array(text()).optional(),
    detail: text().optional(),
    questionHash: text().optional(),
    answer: text().optional(),
    answeredAt: time().optional(),
    limits: text().optional(),
    token: z
      .object({
        name: text(),
        role: z.enum(ROLES),
        selector: text().optional(),
        expiresAt: time().optional(),
        rate: requestRate.optional(),
      })
      .optional(),
    removed: whole().optional(),
    mode: mode.optional(),
    again: z.literal(true).optional(),
    missing: whole().optional(),
    outcomes: z.partialRecord(outcome, z.number()).optional(),
    executions: z.object({ count: whole(), ids: z.array(text()) }).optional(),
    digest: text().optional(),
    orderDigest: text().optional(),
    hash: text().describe('Over the entry before and this one.'),
  }),
  AuditVerdict: z.object({
    entries: whole(),
    receipts: whole(),
    head: text().optional(),
    intact: flag(),
    faults: z.array(z.object({ id: text(), fault: text() })),
  }),
};
