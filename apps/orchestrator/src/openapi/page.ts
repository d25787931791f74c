import type { Json, OpenApi } from './document';

/** The whole style of the page: its hash is in the page's content security policy. */
export const STYLE = `:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h2{margin-top:3rem;border-bottom:1px solid}
h3{margin-top:2rem}
code,pre{font:14px/1.4 ui-monospace,monospace}
pre{overflow-x:auto;padding:.5rem;border:1px solid #8886}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;border:1px solid #8886}
nav ul{columns:3 14rem}
summary{cursor:pointer}`;

/** The document as a page that a browser shows without scripts and without anything from elsewhere. */
export function renderPage(document: OpenApi): string {
  const { info, paths, components } = document;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = [...new Set(operations.map(({ operation }) => text(list(operation['tags'])[0])))];
  const sections = tags.map((tag) => {
    const own = operations.filter(({ operation }) => list(operation['tags'])[0] === tag);
    return `<h2 id="part-${escape(tag)}">${escape(tag)}</h2>\n${own.map((one) => operationOf(one, document)).join('\n')}`;
  });
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) => `<h3 id="${schemaId(name)}">${escape(name)}</h3>\n${fieldsOf(schema)}`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(info.title)}</title><style>${STYLE}</style></head>
<body><h1>${escape(info.title)} ${escape(info.version)}</h1>
<p>${prose(info.description)} The same <a href="openapi.json">as an OpenAPI 3.1 document</a>.</p>
<nav><ul>${[...tags, 'schemas'].map((tag) => `<li><a href="#part-${escape(tag)}">${escape(tag)}</a></li>`).join('')}</ul></nav>
${sections.join('\n')}
<h2 id="part-schemas">Schemas</h2>
${schemas.join('\n')}
</body></html>
`;
}

interface Described {
  readonly path: string;
  readonly method: string;
  readonly operation: Json;
}

function operationOf({ path, method, operation }: Described, document: OpenApi): string {
  const parameters = list(operation['parameters']).map(object);
  const body = object(operation['requestBody']);
  const answers = Object.entries(object(operation['responses'])).map(
    ([status, answer]) => [status, resolve(object(answer), document)] as const,
  );
  return `<section><h3 id="${escape(text(operation['operationId']))}"><code>${method} ${escape(path)}</code></h3>
<p>${prose(text(operation['summary']))} ${prose(text(operation['description']))}</p>
${parameters.length === 0 ? '' : table(['parameter', 'in', 'type', 'meaning'], parameters.map(parameterRow))}
${operation['requestBody'] === undefined ? '' : bodyOf(body)}
${table(['status', 'meaning', 'content'], answers.map(answerRow))}
</section>`;
}

function parameterRow(parameter: Json): string[] {
  return [
    `<code>${escape(text(parameter['name']))}</code>${parameter['required'] === true ? ' (required)' : ''}`,
    escape(text(parameter['in'])),
    typeOf(object(parameter['schema'])),
    prose(text(parameter['description'])),
  ];
}

function bodyOf(body: Json): string {
  const content = object(object(body['content'])['application/json']);
  const examples = Object.values(object(content['examples'])).map(
    (example) => `<pre>${escape(JSON.stringify(object(example)['value'], null, 1))}</pre>`,
  );
  const needed = body['required'] === true ? 'required' : 'may be left out';
  return `<p>Body: ${typeOf(object(content['schema']))}, ${needed}.</p>\n${examples.join('\n')}`;
}

function answerRow([status, answer]: readonly [string, Json]): string[] {
  const content = Object.entries(object(answer['content'])).map(([media, of]) => {
    const { schema, 'x-belay-frames': frames } = object(of);
    return `<code>${escape(media)}</code> ${frames === undefined ? typeOf(object(schema)) : framesOf(object(frames))}`;
  });
  return [escape(status), prose(text(answer['description'])), content.join('<br>')];
}

function framesOf(frames: Json): string {
  const rows = Object.entries(frames).map(([name, frame]) => {
    const { description, ...data } = object(frame);
    return [`<code>${escape(name)}</code>`, prose(text(description)), typeOf(data)];
  });
  return table(['frame', 'meaning', 'data'], rows);
}

/** The fields of an object as a table; of any other schema its type. */
function fieldsOf(schema: Json): string {
  if (schema['properties'] === undefined) return `<p>${typeOf(schema)}</p>`;
  const required = list(schema['required']);
  const rows = Object.entries(object(schema['properties'])).map(([name, field]) => [
    `<code>${escape(name)}</code>${required.includes(name) ? '' : ' ?'}`,
    typeOf(object(field)),
    prose(text(object(field)['description'])),
  ]);
  return table(['field', 'type', 'meaning'], rows);
}

/** A schema in a few words, with a link to each named one. */
function typeOf(schema: Json): string {
  const { $ref, anyOf, oneOf, allOf, enum: words, type, items, properties, pattern } = schema;
  if (typeof $ref === 'string') {
    const name = $ref.split('/').at(-1) ?? '';
    return `<a href="#${schemaId(name)}">${escape(name)}</a>`;
  }
  if (allOf !== undefined) return problemOf(list(allOf).map(object));
  if (anyOf !== undefined)
    return list(anyOf)
      .map((part) => typeOf(object(part)))
      .join(' or ');
  if (words !== undefined) return `${codes(list(words))}${boundsOf(schema)}`;
  if (schema['const'] !== undefined) return `<code>${escape(JSON.stringify(schema['const']))}</code>`;
  if (type === 'array') return `list of ${typeOf(object(items))}`;
  if (properties !== undefined)
    return `{ ${Object.entries(object(properties))
      .map(([name, field]) => `${escape(name)}: ${typeOf(object(field))}`)
      .join(', ')} }`;
  if (oneOf !== undefined && type === undefined)
    return list(oneOf)
      .map((part) => typeOf(object(part)))
      .join(' or ');
  // A pattern that only forbids control characters says less than the bounds do.
  const hasForm = typeof pattern === 'string' && pattern.length < 60 && !pattern.includes('u0000');
  const form = hasForm ? ` <code>${escape(pattern)}</code>` : '';
  return `${escape(text(type) === '' ? 'any' : text(type))}${boundsOf(schema)}${form}`;
}

/** The body of an error: the codes that its status has. */
function problemOf([base = {}, more = {}]: readonly Json[]): string {
  const { code } = object(more['properties']);
  return `${typeOf(base)}: ${codes(list(object(code)['enum']))}`;
}

const codes = (words: readonly unknown[]): string =>
  words.map((word) => `<code>${escape(text(word))}</code>`).join(', ');

function boundsOf({ minimum, maximum, minLength, maxLength, default: usual }: Json): string {
  const range = rangeOf(minimum, maximum);
  const length = rangeOf(minLength, maxLength);
  return `${range}${length === '' ? '' : `${length} characters`}${usual === undefined ? '' : `, else ${escape(JSON.stringify(usual))}`}`;
}

function rangeOf(least: unknown, most: unknown): string {
  if (most === undefined) return least === undefined ? '' : ` from ${text(least)}`;
  return ` ${least === undefined ? 'at most' : `${text(least)} to`} ${text(most)}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (row: readonly string[], tag: string): string =>
    `<tr>${row.map((cell) => `<${tag}>${cell}</${tag}>`).join('')}</tr>`;
  return `<table>${cells(head, 'th')}\n${rows.map((row) => cells(row, 'td')).join('\n')}</table>`;
}

function resolve(answer: Json, { components }: OpenApi): Json {
  const { $ref } = answer;
  return typeof $ref === 'string' ? (components.responses[$ref.split('/').at(-1) ?? ''] ?? {}) : answer;
}

const schemaId = (name: string): string => `schema-${escape(name)}`;
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const object = (value: unknown): Json => (typeof value === 'object' && value !== null ? (value as Json) : {});
const text = (value: unknown): string =>
  typeof value === 'string'
    ? value
    : typeof value === 'number' || typeof value === 'boolean'
      ? String(value)
      : '';

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
function escape(words: string): string {
  return words.replace(/[&<>"']/g, (sign) => ESCAPES[sign] ?? '');
}

/** Words with `code` in them. */
function prose(words: string): string {
  return escape(words).replace(/`([^`]*)`/g, '<code>$1</code>');
}
