import { createHash } from 'node:crypto';
import { parseTraceparent, type TraceContext } from '#libs/contracts';

/** The trace of one execution. */
export interface ExecutionTrace {
  readonly traceId: string;
  readonly isSampled: boolean;
  /** The caller's span; undefined: the submit's span is the root. */
  readonly callerSpanId: string | undefined;
  /** The parent of every other span of the execution. */
  readonly submitSpanId: string;
}

/**
 * Ids are derived, not drawn, so that processes that never meet name the same span: the worker of an attempt, the orchestrator
 * that links a kill to the attempt, and the janitor that ends the attempt after the worker's death (ADR 0030). A span that is
 * sent twice is the same span.
 */
const derive = (bytes: number, ...parts: readonly string[]): string =>
  createHash('sha256')
    .update(['belay', ...parts].join('\n'))
    .digest('hex')
    .slice(0, 2 * bytes);

/** @param traceparent as stored with the execution */
export function traceOf(executionId: string, traceparent?: string): ExecutionTrace {
  const caller = parseTraceparent(traceparent);
  return {
    traceId: caller?.traceId ?? derive(16, 'trace', executionId),
    isSampled: caller?.isSampled ?? true,
    callerSpanId: caller?.spanId,
    submitSpanId: derive(8, 'submit', executionId),
  };
}

/** The span of an attempt. */
export const attemptSpanId = (agentId: string): string => derive(8, 'attempt', agentId);
/** The start of the process of an attempt. */
export const spawnSpanId = (agentId: string): string => derive(8, 'spawn', agentId);
/** An order in one execution. One that ends incomplete and is proved later has two spans. */
export const killSpanId = (orderId: string, executionId: string, state: string): string =>
  derive(8, 'kill', orderId, executionId, state);

/** The place of an attempt's own spans. */
export function contextOfAttempt(trace: ExecutionTrace, agentId: string): TraceContext {
  return { traceId: trace.traceId, spanId: attemptSpanId(agentId), isSampled: trace.isSampled };
}
