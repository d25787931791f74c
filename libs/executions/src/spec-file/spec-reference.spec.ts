import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROBLEM_CODES, specJsonSchema } from '#libs/contracts';

interface Schema {
  readonly type?: string;
  readonly default?: unknown;
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly maxProperties?: number;
}

const doc = readFileSync(join(__dirname, '../../../../docs/spec.md'), 'utf8');
const rows = doc.split('\n').filter((line) => line.startsWith('| `'));
const rowOf = (name: string) => rows.find((row) => row.startsWith(`| \`${name}\` |`)) ?? '';

/** Every field of the schema: its path in the notation of docs/spec.md, its schema, and whether it is required. */
function fieldsOf(schema: Schema, path = ''): [string, Schema, boolean][] {
  const required = schema.required ?? [];
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const at = `${path}${name}`;
    const inner = name === 'nodes' ? fieldsOf(field.items ?? {}, `${at}[].`) : fieldsOf(field, `${at}.`);
    return [[at, field, required.includes(name)] as [string, Schema, boolean], ...inner];
  });
}

const fields = fieldsOf(specJsonSchema());
const BOUNDS = [
  'minimum',
  'maximum',
  'minItems',
  'maxItems',
  'minLength',
  'maxLength',
  'maxProperties',
] as const;

describe('docs/spec.md', () => {
  it.each(fields)('has %s with its default and bounds', (path, field, required) => {
    const row = rowOf(path);
    expect(row).not.toBe('');
    if (required) expect(row).toContain('| required |');
    if (field.default !== undefined && path !== 'nodes[].backoff')
      expect(row).toContain(`| \`${JSON.stringify(field.default)}\` |`);
    for (const word of [...(field.enum ?? []), ...(field.const === undefined ? [] : [field.const])])
      expect(row).toContain(`\`${word}\``);
    // Node labels refer to the execution's.
    if (path === 'nodes[].labels') return;
    for (const bound of BOUNDS) {
      if (field[bound] !== undefined) expect(row).toMatch(new RegExp(`\\b${field[bound]}\\b`));
    }
  });

  it('has no field that is not there', () => {
    const known = [...fields.map(([path]) => path), ...Object.keys(PROBLEM_CODES)];
    for (const row of rows) expect(known).toContain(/^\| `([^`]+)`/.exec(row)?.[1]);
  });

  it.each(Object.entries(PROBLEM_CODES))('explains %s', (code, meaning) => {
    expect(rowOf(code)).toBe(`| \`${code}\` | ${meaning} |`);
  });
});
