import fc from 'fast-check';
import { InvalidSpecError } from '../errors';
import { isHandlerRun, SPEC_LIMITS } from '../spec';
import {
  checkAgentSpec,
  checkSpec,
  validateAgentSpec,
  validateSpec,
  validateSpecInTurns,
} from './validate-spec';

const run = { command: ['true'] };
const node = (fields: object = {}) => ({ id: 'a', run, ...fields });
const spec = (...nodes: unknown[]) => ({ name: 'x', nodes });

/** Problems as `path CODE message`; empty for a valid spec. */
function told(raw: unknown, check = checkSpec): string[] {
  const result = check(raw);
  return result.ok ? [] : result.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
}

describe('a good spec', () => {
  it('gets every default written out', () => {
    expect(validateSpec(spec(node()))).toStrictEqual({
      name: 'x',
      labels: {},
      onFailure: 'stop',
      nodes: [
        {
          id: 'a',
          dependsOn: [],
          run: { command: ['true'], env: {}, shell: false },
          pool: 'default',
          priority: 5,
          labels: {},
          maxAttempts: 3,
          backoff: { type: 'exponential', delayMs: 1_000, maxMs: 30_000, jitter: 0.5 },
          allowFailure: false,
          onLostContact: 'stop',
          recovery: { auto: true },
        },
      ],
    });
  });

  it('keeps every field that was given and drops retryOn any, which says nothing', () => {
    const full = {
      name: 'Ünïcode 🚀',
      labels: { 'team/a': 'data' },
      idempotencyKey: 'k',
      timeoutMs: 1,
      maxCostUsd: 5,
      softCostUsd: 5,
      onFailure: 'continue',
      graceMs: 0,
    };
    const first = node({
      run: { command: ['a b; c'], env: { A: '' }, cwd: 'work', shell: true },
      input: { constructor: 1, prototype: [null, 1.5, true, 'text'] },
      pool: 'gpu',
      priority: 10,
      labels: { model: 'large' },
      maxAttempts: 1,
      backoff: { type: 'fixed', delayMs: 0, maxMs: 0, jitter: 1 },
      timeoutMs: SPEC_LIMITS.maxDurationMs,
      graceMs: SPEC_LIMITS.maxGraceMs,
      limits: { memoryMb: 512, cpus: 0.5, pids: 64 },
      allowFailure: true,
      onLostContact: 'stop',
      recovery: { auto: false, withinMs: 60_000 },
    });
    const checked = validateSpec({ ...full, nodes: [{ ...first, retryOn: 'any' }] });
    expect(checked).toStrictEqual({ ...full, nodes: [{ ...first, dependsOn: [] }] });
    const lost = validateSpec(spec(node({ run: { handler: 'sum' }, retryOn: 'lost' }))).nodes[0];
    expect(lost).toMatchObject({ run: { handler: 'sum' }, retryOn: 'lost' });
    const runs = validateSpec(spec(node(), node({ id: 'b', run: { handler: 'sum' } }))).nodes.map(
      ({ run: one }) => one,
    );
    expect(runs.map(isHandlerRun)).toEqual([false, true]);
  });

  it('may have undefined where a field may be absent, as programs write it', () => {
    const given = {
      ...spec(node({ timeoutMs: undefined, input: undefined, limits: {} })),
      graceMs: undefined,
    };
    expect(validateSpec(given)).toStrictEqual(validateSpec(spec(node())));
  });

  it('is not changed', () => {
    const given = spec(node(), node({ id: 'b', dependsOn: ['a'], backoff: { delayMs: 5 } }));
    const before = structuredClone(given);
    validateSpec(given);
    expect(given).toStrictEqual(before);
  });

  it('has a longest wait that is never below its first', () => {
    const [only] = validateSpec(spec(node({ backoff: { delayMs: 60_000 } }))).nodes;
    expect(only?.backoff).toStrictEqual({ type: 'exponential', delayMs: 60_000, maxMs: 60_000, jitter: 0.5 });
  });
});

const TEXT = 'a text of 1 to 256 characters without control characters';
const ID = 'an id of 1 to 64 of the characters A-Z a-z 0-9 _ . -';
const ARGUMENT = 'a string of 1 to 131072 characters without NUL';
const COMMAND = 'a list of 1 to 1024 strings, the program first';

describe('the exact text of each problem', () => {
  it.each<[string, unknown, string[]]>([
    ['no object', null, [' TYPE must be an object with name and nodes; it is null.']],
    ['a list', [1], [' TYPE must be an object with name and nodes; it is a list of 1.']],
    ['nothing', undefined, [' REQUIRED is missing; it must be an object with name and nodes.']],
    [
      'empty',
      {},
      [
        `name REQUIRED is missing; it must be ${TEXT}.`,
        'nodes REQUIRED is missing; it must be a list of 1 to 100000 nodes.',
      ],
    ],
    ['no nodes', spec(), ['nodes LENGTH must be a list of 1 to 100000 nodes; it is an empty list.']],
    [
      'nodes as an object',
      { name: 'x', nodes: {} },
      ['nodes TYPE must be a list of 1 to 100000 nodes; it is an object.'],
    ],
    ['a node that is text', spec('a'), ['nodes[0] TYPE must be an object with id and run; it is "a".']],
    ['an empty name', { ...spec(node()), name: '' }, [`name LENGTH must be ${TEXT}; it is "".`]],
    ['a name as a number', { ...spec(node()), name: 7 }, [`name TYPE must be ${TEXT}; it is 7.`]],
    [
      'a name with an escape code',
      { ...spec(node()), name: '\u001b[2J' },
      [`name PATTERN must be ${TEXT}; it is "\\u001b[2J".`],
    ],
    [
      'a long name, told once',
      { ...spec(node()), name: '\n'.repeat(300) },
      [`name LENGTH must be ${TEXT}; it is "${'\\n'.repeat(40)}"… (300 characters).`],
    ],
    ['a bad id', spec(node({ id: 'a b' })), [`nodes[0].id PATTERN must be ${ID}; it is "a b".`]],
    [
      'a field with a typing error',
      spec(node(), node({ id: 'b', dependOn: ['a'] })),
      ['nodes[1].dependOn UNKNOWN_FIELD unknown field; did you mean dependsOn?'],
    ],
    [
      'fields in other spellings',
      spec(node({ depends_on: [], TimeoutMS: 1, run: { ...run, shel: true } })),
      [
        'nodes[0].run.shel UNKNOWN_FIELD unknown field; did you mean shell?',
        'nodes[0].depends_on UNKNOWN_FIELD unknown field; did you mean dependsOn?',
        'nodes[0].TimeoutMS UNKNOWN_FIELD unknown field; did you mean timeoutMs?',
      ],
    ],
    [
      'a field like no other',
      spec(node({ limits: { disk: 1 }, backoff: { wait: 1 } })),
      [
        'nodes[0].backoff.wait UNKNOWN_FIELD unknown field; known here: type, delayMs, maxMs, jitter.',
        'nodes[0].limits.disk UNKNOWN_FIELD unknown field; known here: memoryMb, cpus, pids.',
      ],
    ],
    [
      'a field of the execution',
      { ...spec(node()), timeOut: 5 },
      ['timeOut UNKNOWN_FIELD unknown field; did you mean timeoutMs?'],
    ],
    [
      'a field of the recovery',
      spec(node({ recovery: { autoo: true, x: 1 } })),
      [
        'nodes[0].recovery.autoo UNKNOWN_FIELD unknown field; did you mean auto?',
        'nodes[0].recovery.x UNKNOWN_FIELD unknown field; known here: auto, withinMs.',
      ],
    ],
    [
      'priority 11',
      spec(node({ priority: 11 })),
      ['nodes[0].priority RANGE must be a whole number from 1 to 10; it is 11.'],
    ],
    [
      'priority 1.5',
      spec(node({ priority: 1.5 })),
      ['nodes[0].priority RANGE must be a whole number from 1 to 10; it is 1.5.'],
    ],
    [
      'priority as text',
      spec(node({ priority: '5' })),
      ['nodes[0].priority TYPE must be a whole number from 1 to 10; it is "5".'],
    ],
    [
      'a backoff that would need converting',
      spec(node({ backoff: { delayMs: '1000', jitter: true, type: 'linear' } })),
      [
        'nodes[0].backoff.type ONE_OF must be fixed or exponential; it is "linear".',
        'nodes[0].backoff.delayMs TYPE must be a whole number of milliseconds from 0 to 2592000000; it is "1000".',
        'nodes[0].backoff.jitter TYPE must be a number from 0 to 1; it is true.',
      ],
    ],
    [
      'a longest wait below the first',
      spec(node({ backoff: { delayMs: 10, maxMs: 5 } })),
      ['nodes[0].backoff.maxMs BACKOFF_ORDER must be at least delayMs (10); it is 5.'],
    ],
    [
      'a longest wait below the first that nobody wrote',
      spec(node({ backoff: { maxMs: 500 } })),
      ['nodes[0].backoff.maxMs BACKOFF_ORDER must be at least delayMs (1000); it is 500.'],
    ],
    [
      'R38 what a worker without contact would not do',
      spec(node({ onLostContact: 'continue' as never })),
      ['nodes[0].onLostContact ONE_OF must be stop, as continue is not built; it is "continue".'],
    ],
    [
      'a soft budget above the hard one',
      { ...spec(node()), maxCostUsd: 1, softCostUsd: 2 },
      ['softCostUsd COST_ORDER must be at most maxCostUsd (1); it is 2.'],
    ],
    [
      'a soft budget of tokens above the hard one',
      { ...spec(node()), maxTokens: 10, softTokens: 11 },
      ['softTokens TOKENS_ORDER must be at most maxTokens (10); it is 11.'],
    ],
    [
      'half a token',
      { ...spec(node()), maxTokens: 0.5 },
      ['maxTokens RANGE must be a whole number of tokens from 0 to 1000000000000; it is 0.5.'],
    ],
    [
      'a negative budget',
      { ...spec(node()), maxCostUsd: -1 },
      ['maxCostUsd RANGE must be a number of US dollars from 0 to 1000000000; it is -1.'],
    ],
    [
      'too long a grace and no time at all',
      spec(node({ graceMs: 600_001, timeoutMs: 0 })),
      [
        'nodes[0].timeoutMs RANGE must be a whole number of milliseconds from 1 to 2592000000; it is 0.',
        'nodes[0].graceMs RANGE must be a whole number of milliseconds from 0 to 600000; it is 600001.',
      ],
    ],
    [
      'an empty command',
      spec(node({ run: { command: [] } })),
      [`nodes[0].run.command LENGTH must be ${COMMAND}; it is an empty list.`],
    ],
    [
      'a command as text',
      spec(node({ run: { command: 'ls -l' } })),
      [`nodes[0].run.command TYPE must be ${COMMAND}; it is "ls -l".`],
    ],
    [
      'arguments that are empty, no text, or cut by NUL',
      spec(node({ run: { command: ['', 1, 'a\0b'] } })),
      [
        `nodes[0].run.command[0] LENGTH must be ${ARGUMENT}; it is "".`,
        `nodes[0].run.command[1] TYPE must be ${ARGUMENT}; it is 1.`,
        `nodes[0].run.command[2] PATTERN must be ${ARGUMENT}; it is "a\\u0000b".`,
      ],
    ],
    [
      'no run',
      spec({ id: 'a' }),
      ['nodes[0].run REQUIRED is missing; it must be an object with a command or a handler.'],
    ],
    [
      'run without a command',
      spec(node({ run: {} })),
      [`nodes[0].run.command REQUIRED is missing; it must be ${COMMAND}.`],
    ],
    [
      'shell with two strings',
      spec(node({ run: { command: ['echo', 'x'], shell: true } })),
      ['nodes[0].run.command SHELL_COMMAND must be exactly one string with shell: true; it is a list of 2.'],
    ],
    [
      'shell as text',
      spec(node({ run: { command: ['x'], shell: 'true' } })),
      ['nodes[0].run.shell TYPE must be true or false; it is "true".'],
    ],
    [
      'environment names',
      spec(node({ run: { ...run, env: { '1A': 'x', BELAY_EPOCH: '1', B: 1 } } })),
      [
        'nodes[0].run.env["1A"] PATTERN must be named with letters, digits and _, and not start with a digit; it is "1A".',
        'nodes[0].run.env.B TYPE must be a string of at most 131072 characters without NUL; it is 1.',
        'nodes[0].run.env.BELAY_EPOCH RESERVED_NAME names starting with BELAY_ are set by Belay; choose another.',
      ],
    ],
    ['a handler', spec(node({ run: { handler: 'summarise' } })), []],
    [
      'a handler beside what is for a command',
      spec(node({ run: { handler: 'summarise', command: 1, env: {}, cwd: '.', shell: false } })),
      [
        `nodes[0].run.command TYPE must be ${COMMAND}; it is 1.`,
        ...['command', 'env', 'cwd', 'shell'].map(
          (field) =>
            `nodes[0].run.${field} HANDLER_RUN must not be given with handler, which its application runs; leave one of the two out.`,
        ),
      ],
    ],
    [
      'a handler of a name that is none',
      spec(node({ run: { handler: 'a b' } })),
      [
        'nodes[0].run.handler PATTERN must be the name of a handler of 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is "a b".',
      ],
    ],
    [
      'inline isolation: what cannot be killed is not offered',
      spec(node({ isolation: 'inline' })),
      [
        'nodes[0].isolation UNKNOWN_FIELD unknown field; known here: id, dependsOn, run, input, pool, priority, labels, delayMs, maxAttempts, retryOn, backoff, timeoutMs, graceMs, limits, allowFailure, onLostContact, recovery.',
      ],
    ],
    [
      'labels',
      { ...spec(node()), labels: { 'a=b': 'x', b: 'new\nline', c: 3 } },
      [
        'labels["a=b"] PATTERN must be named with 1 to 256 of the characters A-Z a-z 0-9 _ . / - and not start with . / -; it is "a=b".',
        'labels.b PATTERN must be a string of at most 256 characters without control characters; it is "new\\nline".',
        'labels.c TYPE must be a string of at most 256 characters without control characters; it is 3.',
      ],
    ],
    [
      'more labels than fit',
      spec(node({ labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, 'x'])) })),
      ['nodes[0].labels LENGTH must be an object of at most 64 labels; it has 65.'],
    ],
    [
      'labels as a list',
      { ...spec(node()), labels: ['a'] },
      ['labels TYPE must be an object of at most 64 labels; it is a list of 1.'],
    ],
    [
      'a pool that would break a queue name',
      spec(node({ pool: 'a:b' })),
      [
        'nodes[0].pool PATTERN must be a pool name of 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is "a:b".',
      ],
    ],
    [
      'dependencies that are no list',
      spec(node({ dependsOn: 'b' })),
      ['nodes[0].dependsOn TYPE must be a list of node ids; it is "b".'],
    ],
    [
      'a dependency that is no id',
      spec(node({ dependsOn: [1] })),
      ['nodes[0].dependsOn[0] TYPE must be the id of another node; it is 1.'],
    ],
    [
      'run as a list, backoff as text',
      spec(node({ run: [], backoff: 'none' })),
      [
        'nodes[0].run TYPE must be an object with a command or a handler; it is an empty list.',
        'nodes[0].backoff TYPE must be an object with type, delayMs, maxMs and jitter; it is "none".',
      ],
    ],
  ])('%s', (_, raw, expected) => {
    expect(told(raw)).toEqual(expected);
  });

  it('all at once, the fields of every node and the graph', () => {
    const raw = { nodes: [node({ priority: 0 }), node({ dependsOn: ['c'] })], extra: 1 };
    expect(told(raw).map((line) => line.split(' ', 2).join(' '))).toEqual([
      'name REQUIRED',
      'extra UNKNOWN_FIELD',
      'nodes[0].priority RANGE',
      'nodes[1].id DUPLICATE_ID',
      'nodes[1].dependsOn[0] UNKNOWN_NODE',
    ]);
  });
});

describe('a spec that is far too large', () => {
  it('gets one answer at once when it has more than 100,000 nodes', () => {
    const nodes = Array.from({ length: 100_001 }, () => null);
    expect(told({ nodes, junk: 1 })).toEqual([
      'nodes TOO_MANY_NODES must be a list of 1 to 100000 nodes; it is a list of 100001.',
    ]);
  });

  it('is listed up to 100 problems, the rest counted', () => {
    const result = checkSpec(
      spec(...Array.from({ length: 150 }, (_, i) => ({ id: `n${i}`, run, priority: 0 }))),
    );
    if (result.ok) throw new Error('150 bad priorities were accepted');
    expect(result.problems).toHaveLength(101);
    expect(result.problems.at(-1)).toEqual({
      path: '',
      code: 'TOO_MANY_PROBLEMS',
      message: '50 more problems are not listed; repair these first.',
    });
  });

  it('is validated in time that grows with its nodes: 100,000 in a chain', () => {
    const cpuMsOf = (count: number): number => {
      const nodes = Array.from({ length: count }, (_, i) => ({
        id: `n${i}`,
        dependsOn: i ? [`n${i - 1}`] : [],
        run,
      }));
      const before = process.cpuUsage();
      expect(validateSpec({ name: 'chain', nodes }).nodes).toHaveLength(count);
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1_000;
    };
    cpuMsOf(1_000);
    // Ten times the nodes; quadratic work would take a hundred times as long.
    expect(cpuMsOf(100_000)).toBeLessThan(50 * Math.max(cpuMsOf(10_000), 10));
  });
});

describe('validateSpec', () => {
  it('throws an error that carries every problem and says the first', () => {
    expect(() => validateSpec({ nodes: [node()], nmae: 'x' })).toThrow(InvalidSpecError);
    expect(() => validateSpec({ nodes: [node()], nmae: 'x' })).toThrow(
      `The execution spec is not valid: name: is missing; it must be ${TEXT}. (and 1 more)`,
    );
  });

  it('throws nothing else, whatever it is given', () => {
    const nearly = fc.record(
      {
        name: fc.oneof(fc.string(), fc.anything()),
        labels: fc.oneof(fc.dictionary(fc.string(), fc.anything()), fc.anything()),
        timeoutMs: fc.oneof(fc.double(), fc.anything()),
        nodes: fc.oneof(
          fc.array(
            fc.record(
              {
                id: fc.oneof(fc.constantFrom('a', 'b', '__proto__'), fc.anything()),
                dependsOn: fc.oneof(fc.array(fc.constantFrom('a', 'b', 'c')), fc.anything()),
                run: fc.oneof(fc.record({ command: fc.array(fc.anything()) }), fc.anything()),
                backoff: fc.anything(),
                isolation: fc.anything(),
                input: fc.anything(),
              },
              { requiredKeys: [] },
            ),
          ),
          fc.anything(),
        ),
      },
      { requiredKeys: [] },
    );
    const hostile = { withNullPrototype: true, withDate: true, withMap: true, withBigInt: true };
    fc.assert(
      fc.property(fc.oneof(nearly, fc.jsonValue(), fc.anything(hostile)), (raw) => {
        for (const validate of [validateSpec, validateAgentSpec]) {
          try {
            validate(raw);
          } catch (error) {
            if (!(error instanceof InvalidSpecError)) throw error;
            for (const { code, message } of error.problems) {
              expect(code).toMatch(/^[A-Z_0-9]+$/);
              expect(message).toMatch(/[.?]$/);
            }
          }
        }
        expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
      }),
      { numRuns: 500 },
    );
  }, 30_000);
});

describe('an agent alone', () => {
  it('becomes an execution of one node', () => {
    const given = { run, labels: { a: 'b' }, timeoutMs: 5, graceMs: 6, maxCostUsd: 1, idempotencyKey: 'k' };
    const { nodes, ...head } = validateAgentSpec(given);
    expect(head).toStrictEqual({
      name: 'agent',
      labels: { a: 'b' },
      idempotencyKey: 'k',
      maxCostUsd: 1,
      onFailure: 'stop',
    });
    expect(nodes).toHaveLength(1);
    expect(nodes[0]).toMatchObject({
      id: 'agent',
      dependsOn: [],
      labels: { a: 'b' },
      timeoutMs: 5,
      graceMs: 6,
    });
  });

  it('may have an id and a name', () => {
    expect(validateAgentSpec({ id: 'probe', run }).name).toBe('probe');
    expect(validateAgentSpec({ id: 'probe', name: 'A probe', run })).toMatchObject({
      name: 'A probe',
      nodes: [{ id: 'probe' }],
    });
  });

  it.each<[string, unknown, string[]]>([
    ['text', 'ls', [' TYPE must be an object with run; it is "ls".']],
    [
      'a dependency and no command',
      { run: { comand: ['x'] }, dependson: [] },
      [
        'run.comand UNKNOWN_FIELD unknown field; did you mean command?',
        'dependson UNKNOWN_FIELD unknown field; known here: id, name, idempotencyKey, maxCostUsd, softCostUsd, maxTokens, softTokens, run, input, pool, priority, labels, delayMs, maxAttempts, retryOn, backoff, timeoutMs, graceMs, limits, allowFailure, onLostContact, recovery.',
        `run.command REQUIRED is missing; it must be ${COMMAND}.`,
      ],
    ],
    [
      'rules between fields',
      { id: 'constructor', run: { command: ['a', 'b'], shell: true }, maxCostUsd: 1, softCostUsd: 2 },
      [
        'softCostUsd COST_ORDER must be at most maxCostUsd (1); it is 2.',
        'id UNSAFE_KEY constructor is a name that is never accepted; choose another.',
        'run.command SHELL_COMMAND must be exactly one string with shell: true; it is a list of 2.',
      ],
    ],
  ])('is refused: %s', (_, raw, expected) => {
    expect(told(raw, checkAgentSpec)).toEqual(expected);
    expect(() => validateAgentSpec(raw)).toThrow(InvalidSpecError);
  });
});

describe('a large spec', () => {
  it('is checked a few hundred nodes at a time, with the same result', async () => {
    const raw = spec(...Array.from({ length: 1_600 }, (_, i) => node({ id: `n${i}` })));
    let turns = 0;
    const checked = await validateSpecInTurns(raw, async () => void turns++);
    expect(checked).toEqual(validateSpec(raw));
    // Three for its JSON, three for its nodes, one for its graph.
    expect(turns).toBe(7);
    const bad = spec(...raw.nodes, node({ id: 'n0' }));
    await expect(validateSpecInTurns(bad, async () => undefined)).rejects.toThrow(InvalidSpecError);
  });

  it('with 200,000 dependencies and large inputs lets others have their turn in its JSON and its graph too', async () => {
    const before = (i: number) => Array.from({ length: Math.min(i, 10) }, (_, k) => `n${i - k - 1}`);
    const raw = spec(
      ...Array.from({ length: 20_000 }, (_, i) => node({ id: `n${i}`, dependsOn: before(i) })),
      node({ id: 'wide', input: Array.from({ length: 100_000 }, () => 1) }),
      node({ id: 'last' }),
    );
    let turns = 0;
    await validateSpecInTurns(raw, async () => void turns++);
    // Its JSON and its nodes some 40 times each, its graph 30 times.
    expect(turns).toBeGreaterThan(100);
  }, 30_000);
});
