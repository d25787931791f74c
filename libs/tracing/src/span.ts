/** The value of an attribute; undefined leaves it out. */
export type AttributeValue = string | number | boolean | undefined;
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** A finished span. Times are milliseconds of the state server's clock. */
export interface Span {
  readonly name: string;
  readonly kind: 'internal' | 'server' | 'consumer';
  readonly traceId: string;
  readonly spanId: string;
  /** Undefined: the root of its trace. */
  readonly parentSpanId: string | undefined;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Attributes;
  readonly events?: readonly SpanEvent[];
  readonly links?: readonly { readonly traceId: string; readonly spanId: string }[];
  /** The status is an error with this message; undefined: no status is set. */
  readonly error?: string | undefined;
}

export interface SpanEvent {
  readonly name: string;
  readonly atMs: number;
  readonly attributes?: Attributes;
}
