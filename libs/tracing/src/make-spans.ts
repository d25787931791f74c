import {
  gradeOf,
  isEnded,
  ORDER_MACHINE,
  SPAN_ATTRIBUTES,
  SPAN_EVENTS,
  SPAN_STATUS,
  SPANS,
  type AgentRecord,
  type ExecutionRecord,
  type Receipt,
} from '#libs/contracts';
import type { Span, SpanEvent } from './span';
import { attemptSpanId, killSpanId, spawnSpanId, type ExecutionTrace } from './trace-ids';

const A = SPAN_ATTRIBUTES;
/** Links of one span. */
export const MOST_LINKS = 128;

/** The span of a submit. Its end is the time at which the execution was stored. */
export function spanOfSubmit(trace: ExecutionTrace, execution: ExecutionRecord, tookMs: number): Span {
  const { id, createdAt, nodes, actor } = execution;
  return {
    name: SPANS.submit,
    kind: actor === 'producer' ? 'consumer' : 'server',
    traceId: trace.traceId,
    spanId: trace.submitSpanId,
    parentSpanId: trace.callerSpanId,
    startMs: createdAt - tookMs,
    endMs: createdAt,
    attributes: { [A.executionId]: id, [A.nodes]: nodes.total },
  };
}

/** The span of an attempt that has ended, and of the start of its process if there was one. */
export function spansOfAttempt(trace: ExecutionTrace, agent: AgentRecord): Span[] {
  const { id, createdAt, startedAt, report } = agent;
  const { traceId } = trace;
  const endMs = agent.completedAt ?? agent.stoppedAt ?? startedAt ?? createdAt;
  const ids = { [A.executionId]: agent.executionId, [A.nodeId]: agent.nodeId, [A.agentId]: id };
  const attempt: Span = {
    name: SPANS.attempt,
    kind: 'internal',
    traceId,
    spanId: attemptSpanId(id),
    parentSpanId: trace.submitSpanId,
    startMs: createdAt,
    endMs,
    attributes: {
      ...ids,
      [A.attempt]: agent.attempt,
      [A.epoch]: agent.epoch,
      [A.pool]: agent.pool,
      [A.workerId]: agent.owner,
      [A.state]: agent.state,
      [A.reason]: agent.reason,
      [A.orderId]: agent.orderId,
      [A.exitCode]: agent.exitCode,
      [A.signal]: agent.signal,
      [A.containment]: agent.containment,
      [A.escalated]: report?.escalated,
      [A.grade]: report === undefined ? undefined : gradeOf(report),
    },
    events: eventsOf(agent, endMs),
    error: errorOf(agent),
  };
  if (startedAt === undefined) return [attempt];
  return [
    attempt,
    {
      name: SPANS.spawn,
      kind: 'internal',
      traceId,
      spanId: spawnSpanId(id),
      parentSpanId: attempt.spanId,
      startMs: createdAt,
      endMs: startedAt,
      attributes: { ...ids, [A.workerId]: agent.owner, [A.containment]: agent.containment },
    },
  ];
}

/**
 * The stop and the proof. The worker's report has monotonic times since the stop was asked; they are counted back from the
 * stored end, so an event is early by the time that storing the end took.
 */
function eventsOf({ report, reason, orderId }: AgentRecord, endMs: number): SpanEvent[] {
  if (report === undefined) return [];
  const { provedAfterMs, signalledAfterMs } = report;
  const proved: SpanEvent[] = !report.proved
    ? []
    : [
        {
          name: SPAN_EVENTS.proved,
          atMs: endMs,
          attributes: {
            [A.grade]: gradeOf(report),
            [A.evidence]: [...new Set(report.evidence.map(({ kind }) => kind))].join(','),
          },
        },
      ];
  if ((reason === undefined && orderId === undefined) || provedAfterMs === undefined) return proved;
  const askedMs = endMs - provedAfterMs;
  const signalled =
    signalledAfterMs === undefined
      ? []
      : [
          {
            name: SPAN_EVENTS.signalled,
            atMs: askedMs + signalledAfterMs,
            attributes: { [A.escalated]: report.escalated },
          },
        ];
  return [
    { name: SPAN_EVENTS.stopAsked, atMs: askedMs, attributes: { [A.reason]: reason, [A.orderId]: orderId } },
    ...signalled,
    ...proved,
  ];
}

/** A kill is no error of its attempt; a death without a proof is. */
function errorOf({ state, reason, error, report }: AgentRecord): string | undefined {
  if (reason === 'worker_lost') return SPAN_STATUS.lost;
  if (report?.proved === false) return SPAN_STATUS.unconfirmed;
  return state === 'failed' ? (error?.code ?? state) : undefined;
}

/** The span of a kill in one execution: from the placing of the order to the last proof, with a link to each attempt. */
export function spanOfKill(
  trace: ExecutionTrace,
  executionId: string,
  { order, state, completedAt, targets }: Receipt,
  settledMs: number,
): Span {
  const own = targets.filter((target) => target.executionId === executionId);
  const endMs = completedAt ?? settledMs;
  const grades = own.flatMap(({ grade }) => grade ?? []);
  const grade = grades.includes('marks') ? 'marks' : grades[0];
  const isProved =
    isEnded(ORDER_MACHINE, state) &&
    own.every(({ outcome }) => outcome === 'killed' || outcome === 'already-ended');
  return {
    name: SPANS.kill,
    kind: 'internal',
    traceId: trace.traceId,
    spanId: killSpanId(order.id, executionId, state),
    parentSpanId: trace.submitSpanId,
    startMs: order.placedAt,
    endMs,
    attributes: {
      [A.executionId]: executionId,
      [A.orderId]: order.id,
      [A.orderMode]: order.mode,
      [A.orderScope]: order.scope.type,
      [A.orderState]: state,
      [A.reason]: order.reason,
      [A.targets]: own.length,
      [A.grade]: grade,
    },
    events:
      isProved && own.length > 0
        ? [{ name: SPAN_EVENTS.proved, atMs: endMs, attributes: { [A.grade]: grade } }]
        : [],
    links: own
      .slice(0, MOST_LINKS)
      .map(({ agentId }) => ({ traceId: trace.traceId, spanId: attemptSpanId(agentId) })),
    error: isProved ? undefined : SPAN_STATUS.unconfirmed,
  };
}
