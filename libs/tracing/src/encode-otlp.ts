import type { Attributes, AttributeValue, Span } from './span';

/** The process that made the spans. */
export interface Resource {
  readonly service: string;
  readonly instance: string;
}

/** Numbers of `SpanKind` in the protocol. */
const KINDS = { internal: 1, server: 2, consumer: 5 } as const;
/** `SPAN_FLAGS_…`: sampled. */
const SAMPLED = 1;
const STATUS_ERROR = 2;

/**
 * An `ExportTraceServiceRequest` in the protocol's JSON form (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding):
 * ids as hexadecimal text, whole numbers of 64 bits as text.
 */
export function encodeSpans({ service, instance }: Resource, spans: readonly Span[]): string {
  const resource = { attributes: encode({ 'service.name': service, 'service.instance.id': instance }) };
  return JSON.stringify({
    resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'belay' }, spans: spans.map(encodeSpan) }] }],
  });
}

function encodeSpan({ events = [], links = [], attributes, ...span }: Span): object {
  return {
    traceId: span.traceId,
    spanId: span.spanId,
    ...(span.parentSpanId === undefined ? {} : { parentSpanId: span.parentSpanId }),
    flags: SAMPLED,
    name: span.name,
    kind: KINDS[span.kind],
    startTimeUnixNano: nanos(span.startMs),
    endTimeUnixNano: nanos(Math.max(span.startMs, span.endMs)),
    attributes: encode(attributes),
    events: events.map(({ name, atMs, attributes: of = {} }) => ({
      timeUnixNano: nanos(atMs),
      name,
      attributes: encode(of),
    })),
    links: links.map((link) => ({ ...link, flags: SAMPLED, attributes: [] })),
    status: span.error === undefined ? {} : { code: STATUS_ERROR, message: span.error },
  };
}

/** A double has no room for the nanoseconds since 1970: microseconds are counted, and three zeros added. */
const nanos = (ms: number): string => `${Math.round(ms * 1_000)}000`;

function encode(attributes: Attributes): object[] {
  return Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ({ key, value: encodeValue(value) }));
}

function encodeValue(value: AttributeValue): object {
  if (typeof value === 'number')
    return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value };
  return typeof value === 'boolean' ? { boolValue: value } : { stringValue: value };
}
