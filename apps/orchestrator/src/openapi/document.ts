import {
  requestSchemas,
  rolesThatMay,
  ROUTES,
  type ErrorCode,
  type RequestName,
  type RouteRule,
} from '#libs/contracts';
import { z } from 'zod';
import { health, problem } from './answer-parts';
import { ANSWERS } from './answers';
import { codesOf, STATUS_MEANING } from './errors';
import { OPERATIONS } from './operations';
import type { Content, Data, Frames, Operation } from './operation.types';
import { ORDER_ANSWERS } from './order-answers';
import { kindOf, parametersOf } from './parameters';

/** The version of the package, which a test compares. */
const VERSION = '0.1.0';
const BODIES = requestSchemas();

/** A JSON object. */
export type Json = { readonly [key: string]: unknown };

/** An OpenAPI 3.1 document, as far as Belay writes one. */
export interface OpenApi {
  readonly openapi: string;
  readonly info: Json & { readonly title: string; readonly version: string; readonly description: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Json>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Json>>;
    readonly responses: Readonly<Record<string, Json>>;
    readonly [part: string]: unknown;
  };
  readonly [part: string]: unknown;
}

/**
 * The HTTP interface as an OpenAPI 3.1 document. It is made from the table of routes, the schemas that check bodies, and those of
 * answers. @throws Error for a route that has no description, or a description without a route
 */
export function makeDocument(): OpenApi {
  const responses: Record<string, Json> = {};
  const paths: Record<string, Record<string, Json>> = {};
  const routes = new Set(ROUTES.map(nameOf));
  const stray = Object.keys(OPERATIONS).find((name) => !routes.has(name));
  if (stray !== undefined) throw new Error(`operations.ts describes ${stray}, which is no route.`);
  for (const rule of ROUTES) {
    const path = rule.path.replace(/:(\w+)/g, '{$1}');
    (paths[path] ??= {})[rule.method.toLowerCase()] = operationOf(rule, responses);
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Belay orchestrator',
      version: VERSION,
      description:
        'Runs fleets of agents as DAG executions and stops any of them, with proof. Errors are application/problem+json: decide by `code`.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    externalDocs: { url: '/api/docs', description: 'This document as a page.' },
    tags: [...new Set(ROUTES.map(({ path }) => tagOf(path)))].map((name) => ({ name })),
    security: [{ token: [] }],
    paths,
    components: {
      schemas: schemas(),
      responses,
      headers: {
        RequestId: { description: 'The id of the request.', schema: { type: 'string' } },
        RetryAfter: { description: 'Seconds until the next try.', schema: { type: 'string' } },
      },
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description:
            'BELAY_TOKEN, or a named token. The listed word is the permission that its role must have.',
        },
      },
    },
  };
}

const nameOf = ({ method, path }: RouteRule): string => `${method} ${path}`;
const ref = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });

function operationOf(rule: RouteRule, shared: Record<string, Json>): Json {
  const operation = OPERATIONS[nameOf(rule)];
  if (operation === undefined) throw new Error(`operations.ts does not describe ${nameOf(rule)}.`);
  const { id, summary, body, headers = [] } = operation;
  const parameters = parametersOf(rule, headers);
  const succeeded = successes(operation);
  const isOpen = rule.needs === 'none';
  return {
    operationId: id,
    tags: [tagOf(rule.path)],
    summary,
    description: accessOf(rule),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: bodyOf(body, operation.examples) }),
    responses: { ...succeeded, ...failures(rule, operation, succeeded, shared) },
    security: isOpen ? [] : [{ token: [rule.needs] }],
    ...(rule.needs === 'none' ? {} : { 'x-belay-roles': rolesThatMay(rule.needs) }),
  };
}

/** Who may use a route, for people. */
function accessOf({ needs, about, flag, field }: RouteRule): string {
  if (needs === 'none') return 'No token is needed.';
  const more = [
    flag && `\`${flag.name}\` also needs \`${flag.needs}\`.`,
    field && `\`${field.name}: ${field.value}\` also needs \`${field.needs}\`.`,
  ];
  const bound = about === 'fleet' ? ['Tokens that are bound to labels are refused.'] : [];
  return [
    `Needs the permission \`${needs}\`: ${rolesThatMay(needs).join(', ')}.`,
    ...more.filter((part) => part !== undefined),
    ...bound,
  ].join(' ');
}

function tagOf(path: string): string {
  const [, first = '', second] = path.split('/');
  if (first !== 'api') return 'server';
  return second === 'openapi.json' || second === 'docs'
    ? 'server'
    : second === 'execute'
      ? 'executions'
      : (second ?? '');
}

function bodyOf(name: RequestName, examples: Operation['examples'] = {}): Json {
  const named = Object.entries(examples).map(([key, value]) => [key, { value }] as const);
  return {
    // A schema that takes an empty object takes no body, too.
    required: !BODIES[name].safeParse({}).success,
    content: { 'application/json': { schema: ref(name), examples: Object.fromEntries(named) } },
  };
}

function successes(operation: Operation): Record<string, Json> {
  const links = linksFrom(operation);
  const entries = Object.entries(operation.answers).map(([status, content]) => {
    const media = [content].flat().map(mediaOf);
    const json = {
      description: STATUS_MEANING[Number(status)],
      headers: { 'x-request-id': { $ref: '#/components/headers/RequestId' } },
      content: Object.assign({}, ...media) as Json,
      ...(links === undefined ? {} : { links }),
    };
    return [status, json] as const;
  });
  return Object.fromEntries(entries);
}

/** Where the answer has an id: the operations that take it. */
function linksFrom({ names }: Operation): Json | undefined {
  if (names === undefined) return undefined;
  const links = ROUTES.flatMap((rule) => {
    const to = OPERATIONS[nameOf(rule)];
    const about = kindOf(rule.path);
    if (about?.kind !== names.kind || to === undefined) return [];
    const parameters = { [about.parameter]: `$response.body#${names.at}` };
    return [[to.id, { operationId: to.id, parameters }] as const];
  });
  return Object.fromEntries(links);
}

function mediaOf(content: Content): Json {
  if ('media' in content) {
    const isJson = content.media === 'application/json';
    return { [content.media]: { schema: { type: isJson ? 'object' : 'string', description: content.says } } };
  }
  if ('frames' in content) return { 'text/event-stream': streamOf(content.frames) };
  return { 'application/json': { schema: schemaOf(content) } };
}

function schemaOf(content: Exclude<Content, { media: unknown } | { frames: unknown }>): Json {
  if ('one' in content) {
    const names = [content.one].flat();
    const [name = ''] = names;
    return names.length === 1 ? ref(name) : { anyOf: names.map((each) => ref(each)) };
  }
  const of = { type: 'array', items: ref('page' in content ? content.page : content.items) };
  const cursors = {
    nextCursor: { type: 'string', description: 'Absent on the last page.' },
    truncated: { const: true, description: 'Only on a last page: there are more than a list reads.' },
  };
  return {
    type: 'object',
    properties: { items: of, ...('page' in content ? cursors : {}) },
    required: ['items'],
  };
}

/** OpenAPI 3.1 has no words for the frames of a stream: an extension has the schema of each frame's data. */
function streamOf(frames: Frames): Json {
  const described = Object.entries(frames).map(([name, { says, data }]) => {
    return [name, { description: says, ...dataOf(data) }] as const;
  });
  return {
    schema: { type: 'string', description: `Frames: ${Object.keys(frames).join(', ')}.` },
    'x-belay-frames': Object.fromEntries(described),
  };
}

function dataOf(data: Data): Json {
  if (typeof data === 'string') return ref(data);
  const fields = Object.entries(data).map(([name, kind]) => {
    const plain = kind.replace('?', '');
    return [
      name,
      plain === 'text' ? { type: 'string' } : plain === 'number' ? { type: 'number' } : ref(plain),
    ] as const;
  });
  const required = Object.keys(data).filter((name) => data[name]?.endsWith('?') !== true);
  return {
    type: 'object',
    properties: Object.fromEntries(fields),
    ...(required.length === 0 ? {} : { required }),
  };
}

/** The answers that report an error. One whose status an answer of another kind has, too, gets that one's content. */
function failures(
  rule: RouteRule,
  operation: Operation,
  succeeded: Readonly<Record<string, Json>>,
  shared: Record<string, Json>,
): Record<string, Json> {
  const found = [...codesOf(rule, operation)].map(([status, codes]) => {
    const failed = failureOf(status, codes);
    const other = succeeded[status];
    if (other !== undefined) {
      const content = { ...(other['content'] as Json), ...(failed['content'] as Json) };
      return [status, { ...other, ...failed, content }] as const;
    }
    const name = [status, ...codes].join('.');
    shared[name] ??= failed;
    return [status, { $ref: `#/components/responses/${name}` }] as const;
  });
  return Object.fromEntries(found);
}

function failureOf(status: number, codes: readonly ErrorCode[]): Json {
  const retry = status === 429 || status === 503;
  return {
    description: STATUS_MEANING[status],
    ...(retry ? { headers: { 'retry-after': { $ref: '#/components/headers/RetryAfter' } } } : {}),
    content: problemOf(status, codes),
  };
}

function problemOf(status: number, codes: readonly ErrorCode[]): Json {
  const fields = { properties: { status: { const: status }, code: { enum: codes } } };
  return { 'application/problem+json': { schema: { allOf: [ref('Problem'), fields] } } };
}

/** All schemas by name, each of which names the others that it contains. */
function schemas(): Record<string, Json> {
  const registry = z.registry<{ id: string }>();
  const all = { ...BODIES, ...ANSWERS, ...ORDER_ANSWERS, Health: health, Problem: problem };
  for (const [id, schema] of Object.entries(all)) registry.add(schema as z.ZodType, { id });
  const made = z.toJSONSchema(registry, {
    uri: (id) => `#/components/schemas/${id}`,
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      // A whole number without a bound of ours.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
    },
  });
  const plain = Object.entries(made.schemas).map(([id, { $schema: _dialect, $id: _id, ...schema }]) => {
    return [id, schema] as const;
  });
  return Object.fromEntries(plain);
}
