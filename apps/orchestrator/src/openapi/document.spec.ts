import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Ajv2020 from 'ajv/dist/2020';
import { ERROR_STATUS, ROUTES } from '#libs/contracts';
import { makeDocument, type Json } from './document';
import { renderPage, STYLE } from './page';

const ROOT = join(__dirname, '../../../..');
const document = JSON.parse(JSON.stringify(makeDocument())) as ReturnType<typeof makeDocument>;
const page = renderPage(document);
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    name: `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
    path,
    operation: operation as Json & {
      operationId: string;
      parameters?: { name: string; in: string; schema: Json; required?: boolean; example?: unknown }[];
      requestBody?: {
        content: Record<string, { schema: Json; examples: Record<string, { value: unknown }> }>;
      };
      responses: Record<string, Json & { $ref?: string; content?: Record<string, { schema?: Json }> }>;
      security: unknown[];
    },
  })),
);

/** Every value of `key` anywhere below. */
function valuesOf(key: string, value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => [
    ...(name === key ? [inner] : []),
    ...valuesOf(key, inner),
  ]);
}

function lookUp(pointer: string): unknown {
  return pointer
    .slice(2)
    .split('/')
    .reduce<unknown>((at, name) => (at as Json | undefined)?.[name], document);
}

describe('the OpenAPI document', () => {
  it('has every route of the table, and no other', () => {
    expect(operations.map(({ name }) => name).toSorted()).toEqual(
      ROUTES.map(({ method, path }) => `${method} ${path}`).toSorted(),
    );
  });

  it('has the version of the package', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    expect(document.info.version).toBe(version);
    expect(document.openapi).toMatch(/^3\.1\.\d$/);
  });

  it('names each operation once, and each parameter of its path', () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { name, path, operation } of operations) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
      const described = (operation.parameters ?? []).filter((one) => one.in === 'path');
      expect([name, described.map((one) => one.name)]).toEqual([name, named]);
      expect(described.every(({ required }) => required === true)).toBe(true);
      const keys = (operation.parameters ?? []).map((one) => `${one.in} ${one.name}`);
      expect(new Set(keys).size).toBe(keys.length);
      const success = Object.keys(operation.responses).filter((status) => status.startsWith('2'));
      expect([name, success.length > 0]).toEqual([name, true]);
    }
  });

  it('refers only to parts that it has, and uses each part', () => {
    const refs = valuesOf('$ref', document) as string[];
    expect(refs.length).toBeGreaterThan(300);
    expect(refs.filter((pointer) => lookUp(pointer) === undefined)).toEqual([]);
    for (const part of ['schemas', 'responses'] as const)
      for (const name of Object.keys(document.components[part])) {
        expect(name).toMatch(/^[\w.-]+$/);
        expect(refs).toContain(`#/components/${part}/${name}`);
      }
    const linked = valuesOf('operationId', valuesOf('links', document));
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(linked.length).toBeGreaterThan(20);
    expect(linked.filter((id) => !ids.includes(id as string))).toEqual([]);
  });

  it('has schemas that JSON Schema 2020-12 accepts, and examples that meet them', () => {
    const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, allErrors: true });
    ajv.addSchema({ $id: 'doc:', components: document.components }, 'doc:', true, false);
    ajv.addVocabulary(['components']);
    for (const { name, operation } of operations) {
      for (const { schema, example } of operation.parameters ?? []) {
        const isValid = ajv.compile(schema);
        if (example !== undefined)
          expect([name, isValid(example), isValid.errors]).toEqual([name, true, null]);
      }
      for (const { schema, examples } of Object.values(operation.requestBody?.content ?? {})) {
        const isValid = ajv.compile(rooted(schema));
        expect(Object.keys(examples).length).toBeGreaterThan(0);
        for (const { value } of Object.values(examples))
          expect([name, isValid(value), isValid.errors]).toEqual([name, true, null]);
      }
    }
    for (const schema of Object.values(document.components.schemas)) ajv.compile(rooted(schema));
  });

  it('R68 documents each error as problem+json, with codes that have that status', () => {
    for (const { name, operation } of operations) {
      const failed = Object.entries(operation.responses).filter(([status]) => Number(status) >= 400);
      for (const [status, answer] of failed) {
        const { content } = (answer.$ref === undefined ? answer : lookUp(answer.$ref)) as typeof answer;
        const schema = content?.['application/problem+json']?.schema as { allOf: [Json, Json] } | undefined;
        const { properties } = (schema?.allOf[1] ?? {}) as {
          properties?: { status: { const: number }; code: { enum: (keyof typeof ERROR_STATUS)[] } };
        };
        expect([name, properties?.status.const]).toEqual([name, Number(status)]);
        if (status === '408' || status === '431') continue;
        for (const code of properties?.code.enum ?? [])
          expect([name, code, ERROR_STATUS[code]]).toEqual([name, code, Number(status)]);
      }
    }
  });

  it('R65 says which routes need no token, and the roles of each other one', () => {
    for (const { name, operation } of operations) {
      const rule = ROUTES.find(({ method, path }) => `${method} ${path}` === name);
      const expected = rule?.needs === 'none' ? [] : [{ token: [rule?.needs] }];
      expect([name, operation.security]).toEqual([name, expected]);
      expect(operation['x-belay-roles'] === undefined).toBe(rule?.needs === 'none');
    }
  });

  it('has the statuses and codes that docs/http-api.md names for each route', () => {
    const sections = readFileSync(join(ROOT, 'docs/http-api.md'), 'utf8').split(/^### /m).slice(1);
    const missing = sections.flatMap((section) => {
      const name = /^`([A-Z]+ \/\S*)`/.exec(section)?.[1];
      const operation = operations.find((one) => one.name === name)?.operation;
      if (operation === undefined) return [];
      const prose = (section.split(/^## /m)[0] ?? '').replace(/^```.*?^```/gms, '');
      const statuses = [...prose.matchAll(/\b(200|201|202|400|404|409|413|415|423|429|503)\b/g)].map(
        ([status]) => status,
      );
      const answers = JSON.stringify(
        Object.entries(operation.responses).map(([status, one]) => [
          status,
          one.$ref === undefined ? one : lookUp(one.$ref),
        ]),
      );
      const codes = [...prose.matchAll(/`([A-Z_]{5,})`/g)]
        .map(([, code = '']) => code)
        .filter((code) => Object.hasOwn(ERROR_STATUS, code));
      return [
        ...statuses.filter((status) => operation.responses[status] === undefined),
        ...codes.filter((code) => !answers.includes(`"${code}"`)),
      ].map((what) => `${name}: ${what}`);
    });
    expect([...new Set(missing)]).toEqual([]);
  });
});

/** A schema of the document as one of its own. */
function rooted(schema: Json): Json {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"doc:#/components')) as Json;
}

describe('the page of the document', () => {
  it('has every route, and a place for each of its links', () => {
    for (const { name, path, operation } of operations) {
      const [method = ''] = name.split(' ');
      expect(page).toContain(`<h3 id="${operation.operationId}"><code>${method} ${path}</code></h3>`);
    }
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const targets = [...page.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id);
    expect(targets.filter((id) => !ids.includes(id))).toEqual([]);
  });

  it('has no script and nothing from elsewhere, and links to the document', () => {
    expect(page).not.toMatch(/<script|<link|<img|<iframe|@import|url\(|\son\w+=|style="/i);
    expect([...page.matchAll(/(?:href|src)="([^#"][^"]*)"/g)].map(([, to]) => to)).toEqual(['openapi.json']);
    expect(page).toContain(`<style>${STYLE}</style>`);
  });

  it('shows words as text', () => {
    const title = '<script>alert("x")</script>';
    expect(renderPage({ ...document, info: { ...document.info, title } })).not.toContain('<script>');
  });
});
