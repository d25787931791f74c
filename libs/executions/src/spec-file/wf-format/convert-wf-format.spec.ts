import fc from 'fast-check';
import { InvalidSpecError, validateSpec } from '#libs/contracts';
import { convertWfFormat, type WfConversionOptions } from './convert-wf-format';
import { isWfFormat } from './is-wf-format';
import { mapIds } from './map-ids';

type Task = [id: unknown, parents: unknown, runtimeInSeconds: unknown];

const document = (...tasks: Task[]) => ({
  name: 'trace',
  schemaVersion: '1.5',
  workflow: {
    specification: { tasks: tasks.map(([id, parents]) => ({ id, name: id, parents, children: [] })) },
    execution: { tasks: tasks.map(([id, , runtimeInSeconds]) => ({ id, runtimeInSeconds })) },
  },
});

function told(raw: unknown, options?: WfConversionOptions): string[] {
  try {
    convertWfFormat(raw, options);
    return [];
  } catch (error) {
    if (!(error instanceof InvalidSpecError)) throw error;
    return error.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
  }
}

describe('a WfFormat document', () => {
  it('is known by its workflow', () => {
    expect(isWfFormat(document())).toBe(true);
    expect([null, [], 'x', {}, { workflow: [] }, { workflow: {}, nodes: [] }].some(isWfFormat)).toBe(false);
  });

  it('becomes a spec of real processes that take as long', () => {
    const raw = document(['a', [], 12.34567], ['b', ['a'], 0], ['c', ['a', 'a'], 100], ['d', ['b', 'c'], 1]);
    const { spec, report } = convertWfFormat(raw, { timeScale: 0.1, pool: 'gpu' });
    const checked = validateSpec(spec);
    expect(checked).toMatchObject({ name: 'trace', labels: { source: 'wfformat' } });
    expect(
      checked.nodes.map(({ id, dependsOn, run, pool }) => [
        id,
        dependsOn,
        'command' in run && run.command,
        pool,
      ]),
    ).toEqual([
      ['a', [], ['sleep', '1.235'], 'gpu'],
      ['b', ['a'], ['sleep', '0'], 'gpu'],
      ['c', ['a'], ['sleep', '10'], 'gpu'],
      ['d', ['b', 'c'], ['sleep', '0.1'], 'gpu'],
    ]);
    expect(report).toEqual({
      name: 'trace',
      tasks: 4,
      edges: 4,
      timeScale: 0.1,
      command: 'sleep SECONDS, one process for each task',
      workSeconds: 11.335,
      criticalPathSeconds: 11.335,
      renamed: {},
    });
  });

  it('runs as long as measured where no scale is given, in the default pool', () => {
    const [only] = validateSpec(convertWfFormat(document(['a', undefined, 1.5])).spec).nodes;
    expect(only).toMatchObject({ pool: 'default', dependsOn: [], run: { command: ['sleep', '1.5'] } });
  });

  it('gets a name even where it has none that a spec may have', () => {
    const named = (name: unknown) => convertWfFormat({ ...document(['a', [], 0]), name }).report.name;
    expect([named(undefined), named(' \n'), named('a\tb'), named('x'.repeat(300)).length]).toEqual([
      'wfformat',
      'wfformat',
      'a b',
      256,
    ]);
  });

  it('with a cycle converts, and validation tells the cycle', () => {
    const { spec, report } = convertWfFormat(document(['a', ['b'], 1], ['b', ['a'], 1]));
    expect(report.criticalPathSeconds).toBe(0);
    expect(() => validateSpec(spec)).toThrow('nodes wait for each other: a → b → a');
  });
});

describe('is refused', () => {
  const TASKS = 'workflow.specification.tasks';
  const RUNS = 'workflow.execution.tasks';
  const good = document(['a', [], 1]);

  it.each<[string, unknown, string[]]>([
    ['no object', [], [' WF_FORMAT must be an object with schemaVersion and workflow.']],
    [
      'another version',
      { ...good, schemaVersion: '1.4' },
      ['schemaVersion WF_FORMAT must be "1.5"; it is "1.4".'],
    ],
    ['no version', { workflow: {} }, ['schemaVersion WF_FORMAT must be "1.5"; it is missing.']],
    [
      'no specification',
      { schemaVersion: '1.5', workflow: {} },
      [`${TASKS} WF_FORMAT must be a list of tasks; it is missing.`],
    ],
    [
      'no measured run',
      { ...good, workflow: { specification: good.workflow.specification } },
      [`${RUNS} WF_FORMAT must be a list of tasks; it is missing.`],
    ],
    [
      'no task at all',
      document(),
      [`${TASKS} WF_FORMAT must be a list of at least one task; it is an empty list.`],
    ],
    [
      'runtimes that are none',
      document(['a', [], undefined], ['b', [], -1], ['c', [], '1']),
      ['missing', '-1', '"1"'].map(
        (seen, i) =>
          `${RUNS}[${i}].runtimeInSeconds WF_FORMAT must be a number of seconds, 0 or more; it is ${seen}.`,
      ),
    ],
    [
      'a task that was not run',
      {
        ...good,
        workflow: {
          ...good.workflow,
          specification: { tasks: [{ id: 'a' }, { id: 'b', parents: ['a'] }] },
        },
      },
      [`${TASKS}[1] WF_FORMAT task "b" has no runtimeInSeconds in workflow.execution.tasks.`],
    ],
    [
      'a parent that is not there, and parents that are no list',
      document(['a', ['ghost'], 1], ['b', 'a', 1], ['c', [1], 1]),
      [
        `${TASKS}[1].parents WF_FORMAT must be a list of task ids; it is "a".`,
        `${TASKS}[2].parents WF_FORMAT must be a list of task ids; it is a list of 1.`,
        `${TASKS}[0].parents[0] WF_FORMAT there is no task "ghost".`,
      ],
    ],
    [
      'one id twice',
      document(['a', [], 1], ['a', [], 1]),
      [`${TASKS}[1].id WF_FORMAT tasks[0] has the id "a" already.`],
    ],
    [
      'tasks without ids',
      document([7, [], 1], ['', [], 1]),
      [
        `${RUNS}[0].id WF_FORMAT must be a task id; it is 7.`,
        `${TASKS}[0].id WF_FORMAT must be a task id; it is 7.`,
        `${TASKS}[1].id WF_FORMAT must be a task id; it is "".`,
      ],
    ],
    [
      'tasks that are no objects',
      { schemaVersion: '1.5', workflow: { specification: { tasks: [null] }, execution: { tasks: ['x'] } } },
      [
        `${RUNS}[0].id WF_FORMAT must be a task id; it is missing.`,
        `${TASKS}[0].id WF_FORMAT must be a task id; it is missing.`,
      ],
    ],
  ])('%s', (_, raw, expected) => {
    expect(told(raw)).toEqual(expected);
  });

  it.each([0, -1, Number.NaN, Infinity])('a time scale of %d', (timeScale) => {
    expect(told(good, { timeScale })).toEqual([
      `timeScale RANGE must be a finite number above 0; it is ${timeScale}.`,
    ]);
  });

  it('a task that would sleep longer than any deadline allows', () => {
    expect(told(document(['a', [], 3_000_000]))).toEqual([
      `${TASKS}[0] RANGE would run for 3000000 seconds, longer than 2592000; choose a smaller time scale.`,
    ]);
  });
});

describe('node ids of tasks', () => {
  it('stay where they are ids, else are shortened and told apart by a hash', () => {
    const long = 'very_long_task_name_'.repeat(5);
    const mapped = mapIds(['ok-1', `${long}1`, `${long}2`, 'a b', 'ä', '__proto__']);
    expect([...mapped.values()]).toEqual([
      'ok-1',
      expect.stringMatching(/^very_long_task_name_very_long_task_name_very_long_task_-[0-9a-f]{8}$/),
      expect.stringMatching(/^very_long_task_name_very_long_task_name_very_long_task_-[0-9a-f]{8}$/),
      expect.stringMatching(/^a_b-[0-9a-f]{8}$/),
      expect.stringMatching(/^_-[0-9a-f]{8}$/),
      expect.stringMatching(/^__proto__-[0-9a-f]{8}$/),
    ]);
  });

  it('never meet, not even when a task has the name that another would get', () => {
    const [, first] = [...mapIds(['a b'])][0] as [string, string];
    const mapped = mapIds(['a b', first, 'a b']);
    expect(mapped.get(first)).toBe(first);
    expect(mapped.get('a b')).toMatch(/^a_b-[0-9a-f]{8}$/);
    expect(mapped.get('a b')).not.toBe(first);
  });

  it('are valid and unique for any names', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.string({ minLength: 1, maxLength: 100 }), { minLength: 1 }),
        (taskIds) => {
          const ids = [...mapIds(taskIds).values()];
          expect(new Set(ids).size).toBe(taskIds.length);
          for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9_.-]{1,64}$/);
        },
      ),
    );
  });
});
