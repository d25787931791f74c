import {
  canonicalSpec,
  checkSpec,
  InvalidSpecError,
  SPEC_LIMITS,
  specJsonSchema,
  validateAgentSpec,
  validateSpec,
  type Problem,
} from '#libs/contracts';
import { Ajv2020 } from 'ajv/dist/2020';
import fc from 'fast-check';
import { expectProperty } from './runs';

type Json = Record<string, unknown>;

const SPECIAL = new Set(['__proto__', 'constructor', 'prototype']);

const name = fc.stringMatching(/^[A-Za-z0-9_.-]{1,64}$/).filter((text) => !SPECIAL.has(text));
/** Characters by their number; a few with a meaning for a shell, JSON or a key come often. */
const text = (from: number, minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({
    unit: fc.oneof(
      fc.constantFrom(...' "\\\'$`{}[]:,=!é'.split(''), '𝄞'),
      fc.integer({ min: from, max: 0x7e }).map((code) => String.fromCodePoint(code)),
      fc
        .integer({ min: 0xa0, max: 0x10ffff })
        .map((code) => (code >> 11 === 0x1b ? 'x' : String.fromCodePoint(code))),
    ),
    minLength,
    maxLength,
  });
const line = text(0x20, 1, 40);
const osString = text(0x01, 1, 40);
const labels = fc.dictionary(
  fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_./-]{0,20}$/).filter((key) => !SPECIAL.has(key)),
  text(0x20, 0, 40),
  { maxKeys: 4, noNullPrototype: true },
);
const whole = (min: number, max: number): fc.Arbitrary<number> =>
  fc.oneof(fc.integer({ min, max }), fc.constantFrom(min, max));
const amount = (min: number, max: number): fc.Arbitrary<number> =>
  fc.oneof(fc.double({ min, max, noNaN: true }), fc.constantFrom(min, max));
const duration = whole(1, SPEC_LIMITS.maxDurationMs);
const usd = amount(0, 1_000_000_000);

/** The values of `input`: any JSON whose text UTF-8 can carry, without the one key that is refused everywhere. */
const input = fc.jsonValue({ maxDepth: 4 }).filter((value) => !JSON.stringify(value).includes('__proto__'));

const backoff = fc
  .record(
    {
      type: fc.constantFrom('fixed', 'exponential'),
      delayMs: whole(0, SPEC_LIMITS.maxDurationMs),
      maxMs: whole(0, SPEC_LIMITS.maxDurationMs),
      jitter: amount(0, 1),
    },
    { requiredKeys: [], noNullPrototype: true },
  )
  .filter(({ delayMs = 1_000, maxMs }) => maxMs === undefined || maxMs >= delayMs);

const commandRun = fc
  .record(
    {
      command: fc.array(osString, { minLength: 1, maxLength: 4 }),
      env: fc.dictionary(
        fc
          .stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,10}$/)
          .filter((key) => !key.startsWith('BELAY_') && !SPECIAL.has(key)),
        text(0x01, 0, 20),
        { maxKeys: 3, noNullPrototype: true },
      ),
      cwd: osString,
      shell: fc.boolean(),
    },
    { requiredKeys: ['command'], noNullPrototype: true },
  )
  .map((given) => (given.shell === true ? { ...given, command: given.command.slice(0, 1) } : given));

const run: fc.Arbitrary<object> = fc.oneof(
  { weight: 4, arbitrary: commandRun },
  { weight: 1, arbitrary: fc.record({ handler: name }, { noNullPrototype: true }) },
);

const nodeFields = fc.record(
  {
    run,
    input,
    pool: name,
    priority: whole(1, 10),
    labels,
    delayMs: duration,
    maxAttempts: whole(1, SPEC_LIMITS.maxAttempts),
    backoff,
    timeoutMs: duration,
    graceMs: whole(0, SPEC_LIMITS.maxGraceMs),
    limits: fc.record(
      { memoryMb: whole(1, 16_777_216), cpus: amount(0.01, 4_096), pids: whole(1, 4_194_304) },
      { requiredKeys: [], noNullPrototype: true },
    ),
    allowFailure: fc.boolean(),
    onLostContact: fc.constant('stop' as const),
    recovery: fc.record(
      { auto: fc.boolean(), withinMs: duration },
      { requiredKeys: [], noNullPrototype: true },
    ),
    retryOn: fc.constantFrom('any', 'lost'),
  },
  { requiredKeys: ['run'], noNullPrototype: true },
);

/** A DAG in any order: each node depends only on nodes with a lower rank. */
const nodes = fc
  .uniqueArray(name, { minLength: 1, maxLength: 6 })
  .chain((ids) =>
    fc.tuple(
      ...ids.map((id, rank) =>
        fc
          .record(
            { fields: nodeFields, dependsOn: fc.subarray(ids.slice(0, rank)), said: fc.boolean() },
            { noNullPrototype: true },
          )
          .map(({ fields, dependsOn, said }): Json => ({
            id,
            ...fields,
            ...(said || dependsOn.length > 0 ? { dependsOn } : {}),
          })),
      ),
    ),
  )
  .chain((list) => fc.shuffledSubarray(list, { minLength: list.length }));

const specs: fc.Arbitrary<Json & { nodes: Json[] }> = fc
  .record(
    {
      name: line,
      labels,
      idempotencyKey: line,
      timeoutMs: duration,
      maxCostUsd: usd,
      softCostUsd: usd,
      maxTokens: whole(0, 1e12),
      softTokens: whole(0, 1e12),
      onFailure: fc.constantFrom('stop', 'continue'),
      graceMs: whole(0, SPEC_LIMITS.maxGraceMs),
      nodes,
    },
    { requiredKeys: ['name', 'nodes'], noNullPrototype: true },
  )
  .filter(
    ({ maxCostUsd, softCostUsd, maxTokens, softTokens }) =>
      !(softCostUsd! > maxCostUsd!) && !(softTokens! > maxTokens!),
  );

const problemsOf = (raw: unknown): readonly Problem[] => {
  const check = checkSpec(raw);
  return check.ok ? [] : check.problems;
};
const copyOf = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

const ajv = new Ajv2020({ strict: false, allErrors: false });
const schemaTakes = ajv.compile(specJsonSchema());

it('every valid spec is accepted, unchanged; its stored form is a spec with the same stored form', async () => {
  await expectProperty(
    fc.property(specs, (raw) => {
      const before = JSON.stringify(raw);
      expect(problemsOf(raw)).toEqual([]);
      const spec = validateSpec(raw);
      expect(JSON.stringify(raw)).toBe(before);
      const text = canonicalSpec(spec);
      const again = validateSpec(JSON.parse(text));
      expect(again).toEqual(JSON.parse(JSON.stringify(spec)));
      expect(canonicalSpec(again)).toBe(text);
      expect(schemaTakes(copyOf(raw))).toBe(true);
      expect(schemaTakes(JSON.parse(text))).toBe(true);
    }),
    250,
  );
});

/** One rule broken at one place: how, and the expected problem. `schema`: the published schema has the rule too. */
interface Fault {
  readonly what: string;
  readonly schema: boolean;
  readonly make: (spec: Json & { nodes: Json[] }, at: number, value: unknown) => [path: string, code: string];
}

const NODE = (spec: { nodes: Json[] }, at: number): [Json, string] => {
  const index = at % spec.nodes.length;
  return [spec.nodes[index]!, `nodes[${index}]`];
};
/** An object inside a node; it is made if it does not exist. */
const inside = (spec: { nodes: Json[] }, at: number, part: string): [Json, string] => {
  const [node, path] = NODE(spec, at);
  node[part] ??= {};
  return [node[part] as Json, `${path}.${part}`];
};
const put =
  (part: string | undefined, field: string, code: string, value: unknown): Fault['make'] =>
  (spec, at) => {
    const [object, path] =
      part === undefined ? [spec as Json, ''] : part === 'node' ? NODE(spec, at) : inside(spec, at, part);
    object[field] = value;
    return [path === '' ? field : `${path}.${field}`, code];
  };
const LONG = 'x'.repeat(257);
/** For each field: a value of another kind, and one just outside of its bounds. */
const WRONG: readonly [part: string | undefined, field: string, code: string, ...values: unknown[]][] = [
  [undefined, 'name', 'LENGTH', '', LONG],
  [undefined, 'name', 'TYPE', 7, null, [], {}],
  [undefined, 'name', 'PATTERN', 'a\u001b[2J', 'a\nb'],
  [undefined, 'idempotencyKey', 'LENGTH', '', LONG],
  [undefined, 'timeoutMs', 'RANGE', 0, -1, 1.5, SPEC_LIMITS.maxDurationMs + 1],
  [undefined, 'timeoutMs', 'TYPE', '3', true, null],
  [undefined, 'graceMs', 'RANGE', -1, 0.5, SPEC_LIMITS.maxGraceMs + 1],
  [undefined, 'maxCostUsd', 'RANGE', -0.01, 1_000_000_001],
  [undefined, 'softCostUsd', 'TYPE', '1'],
  [undefined, 'maxTokens', 'RANGE', -1, 0.5, 1_000_000_000_001],
  [undefined, 'softTokens', 'TYPE', '1'],
  [undefined, 'onFailure', 'ONE_OF', 'Stop', ''],
  [undefined, 'nodes', 'LENGTH', []],
  [undefined, 'nodes', 'TYPE', {}, 'a'],
  ['node', 'pool', 'PATTERN', 'a b', 'é', 'x'.repeat(65), ''],
  ['node', 'priority', 'RANGE', 0, 11, 5.5],
  ['node', 'maxAttempts', 'RANGE', 0, 101],
  ['node', 'maxAttempts', 'TYPE', '3', [3]],
  ['node', 'timeoutMs', 'RANGE', 0],
  ['node', 'delayMs', 'RANGE', 0, 2_592_000_001],
  ['node', 'graceMs', 'RANGE', -1],
  ['node', 'allowFailure', 'TYPE', 'true', 1, null],
  ['node', 'onLostContact', 'ONE_OF', 'go'],
  ['node', 'run', 'TYPE', 'ls', ['ls'], null],
  ['node', 'labels', 'TYPE', ['a'], 'a=b'],
  ['node', 'backoff', 'TYPE', 'fixed', 7],
  ['run', 'command', 'LENGTH', []],
  ['run', 'command', 'TYPE', 'ls -l', { 0: 'ls' }],
  ['run', 'cwd', 'PATTERN', 'a\u0000b'],
  ['run', 'cwd', 'LENGTH', ''],
  ['run', 'shell', 'TYPE', 'false', 0],
  ['backoff', 'type', 'ONE_OF', 'linear'],
  ['backoff', 'delayMs', 'RANGE', -1],
  ['backoff', 'jitter', 'RANGE', 1.01, -0.1],
  ['limits', 'memoryMb', 'RANGE', 0, 0.5],
  ['limits', 'cpus', 'RANGE', 0],
  ['limits', 'pids', 'TYPE', '7'],
  ['recovery', 'auto', 'TYPE', 'no'],
  ['recovery', 'withinMs', 'RANGE', 0],
];
const UNKNOWN = ['nme', 'recover', 'x', 'Command', 'hasOwnProperty', 'toString', 'autoo', 'ü'];

const FAULTS: readonly Fault[] = [
  ...WRONG.flatMap(([part, field, code, ...values]) =>
    values.map((value) => ({ what: `${field} ${code}`, schema: true, make: put(part, field, code, value) })),
  ),
  ...[undefined, 'node', 'run', 'backoff', 'limits', 'recovery'].flatMap((part) =>
    UNKNOWN.map((field) => ({
      what: `unknown ${field} in ${part ?? 'the spec'}`,
      schema: true,
      make: ((spec, at, value) => {
        const [path] = put(part, field, '', value)(spec, at, value);
        return [field === 'ü' ? path.replace(/\.?ü$/, '["ü"]') : path, 'UNKNOWN_FIELD'];
      }) satisfies Fault['make'],
    })),
  ),
  ...[undefined, 'node', 'run', 'backoff', 'limits', 'recovery', 'labels'].flatMap((part) =>
    ['__proto__', 'constructor', 'prototype'].map((key) => ({
      what: `${key} in ${part ?? 'the spec'}`,
      schema: part !== 'labels',
      make: ((spec, at) => {
        const [object, path] =
          part === undefined ? [spec as Json, ''] : part === 'node' ? NODE(spec, at) : inside(spec, at, part);
        Object.defineProperty(object, key, {
          value: { polluted: 1 },
          enumerable: true,
          configurable: true,
          writable: true,
        });
        return [path === '' ? key : `${path}.${key}`, 'UNSAFE_KEY'];
      }) satisfies Fault['make'],
    })),
  ),
  ...['id', 'run'].map((field) => ({
    what: `no ${field}`,
    schema: true,
    make: ((spec, at) => {
      const [node, path] = NODE(spec, at);
      delete node[field];
      return [`${path}.${field}`, 'REQUIRED'];
    }) satisfies Fault['make'],
  })),
  {
    what: 'one id twice',
    schema: false,
    make: (spec, at) => {
      const [node] = NODE(spec, at);
      spec.nodes.push({ id: node['id'], run: { command: ['true'] } });
      return [`nodes[${spec.nodes.length - 1}].id`, 'DUPLICATE_ID'];
    },
  },
  ...(
    [
      ['UNKNOWN_NODE', () => '-none-of-them-'],
      ['SELF_DEPENDENCY', (id) => id],
    ] as [string, (id: unknown) => unknown][]
  ).map(([code, target]) => ({
    what: code,
    schema: false,
    make: ((spec, at) => {
      const [node, path] = NODE(spec, at);
      const before = (node['dependsOn'] ?? []) as unknown[];
      node['dependsOn'] = [...before, target(node['id'])];
      return [`${path}.dependsOn[${before.length}]`, code];
    }) satisfies Fault['make'],
  })),
  {
    what: 'a dependency twice',
    schema: false,
    make: (spec, at) => {
      spec.nodes.push({ id: '-first-', run: { command: ['true'] } });
      const [node, path] = NODE({ nodes: spec.nodes.slice(0, -1) }, at);
      const before = (node['dependsOn'] ?? []) as unknown[];
      node['dependsOn'] = [...before, '-first-', '-first-'];
      return [`${path}.dependsOn[${before.length + 1}]`, 'DUPLICATE_DEPENDENCY'];
    },
  },
  {
    what: 'softCostUsd above maxCostUsd',
    schema: false,
    make: (spec) => {
      Object.assign(spec, { maxCostUsd: 1, softCostUsd: 1.01 });
      return ['softCostUsd', 'COST_ORDER'];
    },
  },
  {
    what: 'softTokens above maxTokens',
    schema: false,
    make: (spec) => {
      Object.assign(spec, { maxTokens: 1, softTokens: 2 });
      return ['softTokens', 'TOKENS_ORDER'];
    },
  },
  ...[{ delayMs: 2, maxMs: 1 }, { maxMs: 999 }].map((backoff) => ({
    what: 'backoff.maxMs below delayMs',
    schema: false,
    make: ((spec, at) => {
      const [node, path] = NODE(spec, at);
      node['backoff'] = backoff;
      return [`${path}.backoff.maxMs`, 'BACKOFF_ORDER'];
    }) satisfies Fault['make'],
  })),
  {
    what: 'shell with two strings',
    schema: false,
    make: (spec, at) => {
      const [node, path] = NODE(spec, at);
      node['run'] = { command: ['a', 'b'], shell: true };
      return [`${path}.run.command`, 'SHELL_COMMAND'];
    },
  },
  {
    what: 'a variable that Belay sets',
    schema: false,
    make: (spec, at) => {
      const [run, path] = inside(spec, at, 'run');
      run['env'] = { BELAY_TOKEN: 'x' };
      return [`${path}.env.BELAY_TOKEN`, 'RESERVED_NAME'];
    },
  },
  {
    what: 'half of a surrogate pair in input',
    schema: false,
    make: (spec, at) => {
      const [node, path] = NODE(spec, at);
      node['input'] = { a: ['\ud800'] };
      return [`${path}.input.a[0]`, 'NOT_UNICODE'];
    },
  },
];

it('any one rule broken in any valid spec is named where it is broken; the published schema says so where it knows the rule', async () => {
  const faults = fc.constantFrom(...FAULTS);
  await expectProperty(
    fc.property(
      specs,
      faults,
      fc.nat(20),
      fc.jsonValue({ maxDepth: 1 }),
      (raw, { what, schema, make }, at, value) => {
        const broken = copyOf(raw);
        const [path, code] = make(broken, at, value);
        const problems = problemsOf(broken).map((problem) => ({ path: problem.path, code: problem.code }));
        expect({ what, problems }).toEqual({ what, problems: expect.arrayContaining([{ path, code }]) });
        expect(() => validateSpec(broken)).toThrow(InvalidSpecError);
        expect(({} as Json)['polluted']).toBeUndefined();
        if (schema) expect({ what, taken: schemaTakes(broken) }).toEqual({ what, taken: false });
      },
    ),
    800,
  );
});

/** After any change a spec is accepted or every problem is listed, within a bound, and nothing else happens. */
function expectVerdict(raw: unknown): void {
  const startedAt = performance.now();
  for (const validate of [validateSpec, validateAgentSpec]) {
    try {
      validate(raw);
    } catch (error) {
      if (!(error instanceof InvalidSpecError)) throw error;
      expect(error.problems.length).toBeGreaterThan(0);
      expect(error.problems.length).toBeLessThanOrEqual(SPEC_LIMITS.maxProblems + 1);
    }
  }
  expect(Object.keys(Object.prototype)).toEqual([]);
  // Far above the time that it takes: it is for a call that never returns.
  expect(performance.now() - startedAt).toBeLessThan(20_000);
}

it('any JSON put anywhere into a spec is taken or told, and nothing else is thrown', async () => {
  const strange = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom<unknown>(null, '', [], {}, '__proto__', 1e308, -0),
    fc
      .constantFrom('{"__proto__":{"polluted":1}}', '{"constructor":{"prototype":{"polluted":1}}}')
      .map((text) => JSON.parse(text) as unknown),
  );
  const keys = fc.constantFrom(
    ...'name labels nodes id run command env dependsOn backoff limits recovery input isolation handler maxMs a'.split(
      ' ',
    ),
    '__proto__',
    'length',
  );
  await expectProperty(
    fc.property(
      specs,
      fc.array(fc.tuple(fc.nat(), keys, strange), { minLength: 1, maxLength: 4 }),
      (raw, changes) => {
        const spec = copyOf(raw) as unknown;
        for (const [at, key, given] of changes) {
          const value = copyOf(given);
          const places: unknown[] = [];
          const walk = (item: unknown): void => {
            if (typeof item !== 'object' || item === null) return;
            places.push(item);
            Object.values(item).forEach(walk);
          };
          walk(spec);
          const place = places[at % places.length] as Json | unknown[];
          if (Array.isArray(place)) place[at % (place.length + 1)] = value;
          else
            Object.defineProperty(place, key, {
              value,
              enumerable: true,
              configurable: true,
              writable: true,
            });
        }
        expectVerdict(spec);
      },
    ),
    400,
  );
}, 60_000);

it('deep, wide and long specs are answered in bounded time', async () => {
  const deep = (levels: number): unknown => JSON.parse('['.repeat(levels) + ']'.repeat(levels)) as unknown;
  const node = (id: string): Json => ({ id, run: { command: ['true'] } });
  // The long form, with more runs, has the larger ones too.
  const sizes = fc.integer({
    min: 1_000,
    max: process.env['BELAY_TEST_RUNS'] === undefined ? 4_000 : 20_000,
  });
  const large = fc.oneof(
    fc
      .integer({ min: 60, max: 3_000 })
      .map((levels) => ({ name: 'x', nodes: [{ ...node('a'), input: deep(levels) }] })),
    fc.integer({ min: 60, max: 3_000 }).map((levels) => deep(levels)),
    sizes.map((size) => ({ name: 'x', nodes: Array.from({ length: size }, () => ({})) })),
    sizes.map((size) => ({ name: 'x', nodes: Array.from({ length: size }, () => node('same')) })),
    sizes.map((size) => ({
      name: 'x',
      nodes: Array.from({ length: size }, (_, i) => ({
        ...node(`n${i}`),
        dependsOn: [`n${(i + 1) % size}`],
      })),
    })),
    sizes.map((size) => ({
      name: 'x',
      nodes: Array.from({ length: size }, (_, i) => ({ ...node(`n${i}`), dependsOn: [`m${i}`, `N${i}`] })),
    })),
    sizes.map((size) => ({
      name: 'x'.repeat(size * 50),
      labels: Object.fromEntries(Array.from({ length: size }, (_, i) => [`k${i}`, 1])),
      nodes: [],
    })),
    sizes.map((size) => ({ ['y'.repeat(size * 50)]: 1, name: 'x', nodes: [node('a'.repeat(size))] })),
  );
  await expectProperty(
    fc.property(large, (raw) => expectVerdict(raw)),
    16,
  );
}, 120_000);
