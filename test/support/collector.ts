import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

type Value = { stringValue?: string; intValue?: string; doubleValue?: number; boolValue?: boolean };
type Pairs = readonly { readonly key: string; readonly value: Value }[];

/** A span as a collector got it, with its attributes as an object. */
export interface GotSpan {
  readonly name: string;
  readonly service: string;
  readonly instance: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  readonly start: bigint;
  readonly end: bigint;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  readonly events: readonly { readonly name: string; readonly attributes: GotSpan['attributes'] }[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly status: { readonly code?: number; readonly message?: string };
}

/** A collector on loopback that keeps what it gets. */
export interface Collector {
  readonly url: string;
  readonly spans: readonly GotSpan[];
  /** Everything that it got, as text. */
  readonly text: string;
  stop(): Promise<void>;
}

const plain = (pairs: Pairs): GotSpan['attributes'] =>
  Object.fromEntries(
    pairs.map(({ key, value }) => [
      key,
      value.intValue === undefined
        ? (value.stringValue ?? value.boolValue ?? value.doubleValue ?? '')
        : Number(value.intValue),
    ]),
  );

interface Raw extends Omit<GotSpan, 'attributes' | 'events' | 'start' | 'end' | 'service' | 'instance'> {
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: Pairs;
  readonly events: readonly { readonly name: string; readonly attributes: Pairs }[];
}

function spansOf(text: string): GotSpan[] {
  const { resourceSpans } = JSON.parse(text) as {
    resourceSpans: { resource: { attributes: Pairs }; scopeSpans: { spans: Raw[] }[] }[];
  };
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const of = plain(resource.attributes);
    return scopeSpans.flatMap(({ spans }) =>
      spans.map(({ startTimeUnixNano, endTimeUnixNano, attributes, events, ...span }) => ({
        ...span,
        service: String(of['service.name']),
        instance: String(of['service.instance.id']),
        start: BigInt(startTimeUnixNano),
        end: BigInt(endTimeUnixNano),
        attributes: plain(attributes),
        events: events.map((event) => ({ name: event.name, attributes: plain(event.attributes) })),
      })),
    );
  });
}

/** @param status of every answer; `silent` never answers. */
export async function startCollector(status: number | 'silent' = 200): Promise<Collector> {
  const spans: GotSpan[] = [];
  let got = '';
  const server: Server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const known = request.method === 'POST' && request.url === '/v1/traces';
      if (known) {
        got += body;
        if (status === 200) spans.push(...spansOf(body));
      }
      if (status !== 'silent') response.writeHead(known ? status : 404).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    get text() {
      return got;
    },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
