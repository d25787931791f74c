/** The place of a span in its trace, as W3C Trace Context writes it in `traceparent`. */
export interface TraceContext {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** 16 lower-case hexadecimal digits. */
  readonly spanId: string;
  /** False: the caller records no spans of this trace, so Belay records none either. */
  readonly isSampled: boolean;
}

/** The name of every span (docs/observability.md#spans). */
export const SPANS = {
  submit: 'belay.submit',
  attempt: 'belay.attempt',
  spawn: 'belay.spawn',
  kill: 'belay.kill',
} as const;

/** The name of every event of a span. */
export const SPAN_EVENTS = {
  stopAsked: 'belay.stop.asked',
  signalled: 'belay.stop.signalled',
  proved: 'belay.proved',
} as const;

/**
 * The name of every attribute. Values are ids, numbers, and words of fixed lists. No attribute has a command, an environment, an
 * input, a result, an error's message or a person's note.
 */
export const SPAN_ATTRIBUTES = {
  executionId: 'belay.execution.id',
  nodeId: 'belay.node.id',
  nodes: 'belay.execution.nodes',
  agentId: 'belay.agent.id',
  attempt: 'belay.agent.attempt',
  epoch: 'belay.agent.epoch',
  pool: 'belay.agent.pool',
  state: 'belay.agent.state',
  reason: 'belay.stop.reason',
  exitCode: 'belay.agent.exit_code',
  signal: 'belay.agent.signal',
  workerId: 'belay.worker.id',
  containment: 'belay.containment',
  escalated: 'belay.stop.escalated',
  grade: 'belay.proof.grade',
  evidence: 'belay.proof.evidence',
  orderId: 'belay.order.id',
  orderMode: 'belay.order.mode',
  orderScope: 'belay.order.scope',
  orderState: 'belay.order.state',
  targets: 'belay.order.targets',
} as const;

/** Status messages of Belay's own; another one is the code of an error. */
export const SPAN_STATUS = {
  /** The worker of the attempt was lost, and nobody knows how the attempt went. */
  lost: 'lost',
  /** There is no proof of a death. */
  unconfirmed: 'unconfirmed',
} as const;

/** The longest header that is read: a later version of the format may add fields. */
const MOST_CHARACTERS = 512;
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const SAMPLED = 1;

/**
 * The parts of a `traceparent` (https://www.w3.org/TR/trace-context/#traceparent-header). Undefined for a value that breaks the
 * format: the format asks a receiver to begin a new trace then, and not to refuse the request.
 */
export function parseTraceparent(value: unknown): TraceContext | undefined {
  if (typeof value !== 'string' || value.length > MOST_CHARACTERS) return undefined;
  const [, version = '', traceId = '', spanId = '', flags = '', more] = TRACEPARENT.exec(value) ?? [];
  // Version 00 has exactly four fields; ff is no version.
  if (version === '' || version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & SAMPLED) === SAMPLED };
}

/** The `traceparent` of a context. */
export function formatTraceparent({ traceId, spanId, isSampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-0${isSampled ? SAMPLED : 0}`;
}
