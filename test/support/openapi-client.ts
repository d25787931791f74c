import Ajv2020, { type ValidateFunction } from 'ajv/dist/2020';

type Json = Readonly<Record<string, unknown>>;

interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required?: boolean;
  readonly explode?: boolean;
  readonly schema: Json;
  readonly example?: Value;
}
interface Media {
  readonly schema: Json;
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>;
  readonly 'x-belay-frames'?: Readonly<Record<string, Json>>;
}
interface Response {
  readonly $ref?: string;
  readonly content?: Readonly<Record<string, Media>>;
  readonly links?: Readonly<
    Record<string, { readonly operationId: string; readonly parameters: Readonly<Record<string, string>> }>
  >;
}
/** One operation of a document. */
export interface Described {
  readonly method: string;
  readonly path: string;
  readonly operationId: string;
  readonly parameters: readonly Parameter[];
  readonly requestBody?: { readonly required: boolean; readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<Record<string, Response>>;
  readonly security: readonly unknown[];
}

/** The value of a parameter. */
type Value = string | number | readonly string[];

/** A request, beyond what the document says of it. */
export interface Call {
  /** Values of parameters, by name. Default: those of links that earlier answers had, else the document's examples. */
  readonly with?: Readonly<Record<string, Value>>;
  /** The name of the body's example. Default: the first. */
  readonly example?: string;
  /** Fields that replace those of the example. */
  readonly change?: Json;
  /** Reads a stream until then. Default: to its end. */
  readonly until?: (frame: Frame) => boolean;
  /** Sent as they are, against the document: they are to be refused. */
  readonly bad?: {
    readonly query?: string;
    readonly body?: string;
    readonly type?: string;
    readonly token?: undefined;
  };
}

/** A frame of an event stream. */
export interface Frame {
  readonly event: string;
  readonly data: Json;
}

/** An answer that the document describes. */
export interface Checked {
  readonly status: number;
  readonly body: Json;
  readonly frames: readonly Frame[];
}

/**
 * A client that knows nothing but an OpenAPI document. It refuses to send what the document does not allow, and throws for an
 * answer whose status, media type, frames or body the document does not describe, an undocumented field included.
 */
export class OpenApiClient {
  readonly operations: readonly Described[];
  /** `createExecution 201` of every answer so far. */
  readonly seen = new Set<string>();
  private readonly ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false });
  private readonly compiled = new Map<string, ValidateFunction>();
  /** By operation, the parameters that the links of the last answers give. */
  private readonly linked = new Map<string, Readonly<Record<string, Value>>>();

  private constructor(
    private readonly url: string,
    private readonly token: string,
    private readonly document: Json,
  ) {
    const paths = document['paths'] as Record<string, Record<string, Omit<Described, 'method' | 'path'>>>;
    this.operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        ...operation,
        parameters: operation.parameters ?? [],
        method: method.toUpperCase(),
        path,
      })),
    );
    const components = closed(document['components'], false);
    this.ajv.addVocabulary(['components']);
    this.ajv.addSchema({ $id: 'doc:', components }, 'doc:', true, false);
  }

  /** Reads the document of an orchestrator; that needs no token. */
  static async of(url: string, token: string): Promise<OpenApiClient> {
    const answer = await fetch(`${url}/api/openapi.json`);
    if (!answer.ok) throw new Error(`no document: ${answer.status}`);
    return new OpenApiClient(url, token, (await answer.json()) as Json);
  }

  operation(id: string): Described {
    const found = this.operations.find(({ operationId }) => operationId === id);
    if (found === undefined) throw new Error(`The document has no operation ${id}.`);
    return found;
  }

  /** @throws Error for a request or an answer that the document does not allow */
  async call(id: string, call: Call = {}): Promise<Checked> {
    const operation = this.operation(id);
    const { path, headers } = this.addressOf(operation, call);
    const body = call.bad?.body ?? this.bodyOf(operation, call);
    const hasToken = !(call.bad !== undefined && 'token' in call.bad) && operation.security.length > 0;
    const ending = new AbortController();
    const response = await fetch(this.url + path, {
      method: operation.method,
      headers: {
        ...headers,
        ...(hasToken ? { authorization: `Bearer ${this.token}` } : {}),
        ...(body === undefined ? {} : { 'content-type': call.bad?.type ?? 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
      signal: AbortSignal.any([ending.signal, AbortSignal.timeout(90_000)]),
    });
    try {
      return await this.check(operation, response, call);
    } finally {
      ending.abort();
    }
  }

  /** The documented content of an answer. @throws Error for an answer that is not documented */
  private async check(operation: Described, response: globalThis.Response, call: Call): Promise<Checked> {
    const { operationId } = operation;
    const { status } = response;
    const given = operation.responses[status];
    const type = response.headers.get('content-type')?.split(';')[0] ?? '';
    const where = `${operationId} ${status} ${type}`;
    if (given === undefined) throw new Error(`${where} is not documented: ${await response.text()}`);
    const { content = {}, links = {} } = given.$ref === undefined ? given : (this.at(given.$ref) as Response);
    const media = content[type];
    if (media === undefined) throw new Error(`${where} is not documented: ${await response.text()}`);
    this.seen.add(`${operationId} ${status}`);
    if (type === 'text/event-stream') {
      const frames = await readFrames(response, call.until);
      for (const { event, data } of frames) {
        const schema = media['x-belay-frames']?.[event];
        if (schema === undefined) throw new Error(`${where}: the frame ${event} is not documented`);
        this.require(`${where} ${event}`, schema, data);
      }
      return { status, body: {}, frames };
    }
    const text = await response.text();
    if (!type.endsWith('json')) return { status, body: {}, frames: [] };
    const body = JSON.parse(text) as Json;
    this.require(where, media.schema, body);
    for (const { operationId: target, parameters } of Object.values(links))
      this.follow(target, parameters, body);
    return { status, body, frames: [] };
  }

  /** Keeps what a link says; a list may be empty. */
  private follow(target: string, parameters: Readonly<Record<string, string>>, body: Json): void {
    const values = Object.entries(parameters).map(([name, expression]) => {
      const pointer = expression.replace('$response.body#/', '').split('/');
      const value = pointer.reduce<unknown>((at, key) => (at as Json | undefined)?.[key], body);
      return [name, value as Value | undefined] as const;
    });
    const found = values.filter((one): one is readonly [string, Value] => one[1] !== undefined);
    if (found.length === values.length) this.linked.set(target, Object.fromEntries(found));
  }

  private addressOf(
    { operationId, path, parameters }: Described,
    { with: given = {}, bad }: Call,
  ): { path: string; headers: Record<string, string> } {
    const values = new Map<string, Value>();
    for (const parameter of parameters) {
      const { name, example, required = false, schema } = parameter;
      const linked = this.linked.get(operationId)?.[name];
      const value = given[name] ?? (required ? (linked ?? example) : undefined);
      if (value === undefined && required) throw new Error(`${operationId} has no value for ${name}`);
      if (value === undefined) continue;
      this.require(`${operationId} ${name}`, schema, value);
      values.set(`${parameter.in} ${name}`, value);
    }
    const unknown = Object.keys(given).find((name) => !parameters.some((one) => one.name === name));
    if (unknown !== undefined) throw new Error(`${operationId} has no parameter ${unknown}`);
    const query = new URLSearchParams(bad?.query);
    for (const { name, in: place, explode } of parameters) {
      const value = values.get(`query ${name}`);
      if (place !== 'query' || value === undefined) continue;
      if (typeof value !== 'object') query.append(name, String(value));
      else if (explode === false) query.append(name, value.join(','));
      else for (const one of value) query.append(name, one);
    }
    const headers = parameters.filter((one) => one.in === 'header' && values.has(`header ${one.name}`));
    const text = query.toString();
    return {
      path: `${path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(values.get(`path ${name}`))))}${text === '' ? '' : `?${text}`}`,
      headers: Object.fromEntries(headers.map(({ name }) => [name, String(values.get(`header ${name}`))])),
    };
  }

  private bodyOf({ operationId, requestBody }: Described, { example, change }: Call): string | undefined {
    if (requestBody === undefined) return undefined;
    const { schema, examples = {} } = requestBody.content['application/json'] ?? { schema: {} };
    const name = example ?? Object.keys(examples)[0] ?? '';
    const body = { ...(examples[name]?.value as Json), ...change };
    this.require(`${operationId} body ${name}`, schema, body);
    return JSON.stringify(body);
  }

  private require(what: string, schema: Json, value: unknown): void {
    const key = JSON.stringify(schema);
    const text = JSON.stringify(closed(schema, false)).replaceAll('"#/components', '"doc:#/components');
    const isValid = this.compiled.get(key) ?? this.ajv.compile(JSON.parse(text) as Json);
    this.compiled.set(key, isValid);
    if (isValid(value)) return;
    throw new Error(
      `${what}: ${this.ajv.errorsText(isValid.errors)} in ${JSON.stringify(value).slice(0, 2_000)}`,
    );
  }

  private at(pointer: string): unknown {
    const parts = pointer.slice(2).split('/');
    return parts.reduce<unknown>((at, name) => (at as Json | undefined)?.[name], this.document);
  }
}

/** The schemas of a document, so that an object has no field that they do not name: a client may get more, a test may not. */
function closed(value: unknown, isPart: boolean): unknown {
  if (Array.isArray(value)) return value.map((one) => closed(one, isPart));
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).map(([key, inner]) => [key, closed(inner, key === 'allOf')] as const);
  const schema = Object.fromEntries(fields) as Record<string, unknown>;
  const isOpen =
    schema['type'] === 'object' &&
    schema['properties'] !== undefined &&
    schema['additionalProperties'] === undefined;
  return isOpen && !isPart ? { ...schema, additionalProperties: false } : schema;
}

/** The frames of a stream, to its end or to the frame that is looked for. */
async function readFrames(
  response: globalThis.Response,
  until?: (frame: Frame) => boolean,
): Promise<Frame[]> {
  const frames: Frame[] = [];
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    const parts = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n\n');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      const event = /^event: (.*)$/m.exec(part)?.[1];
      if (event === undefined) continue;
      const frame = { event, data: JSON.parse(/^data: (.*)$/m.exec(part)?.[1] ?? '{}') as Json };
      frames.push(frame);
      if (until?.(frame) === true) return frames;
    }
  }
  return frames;
}
