import { formatPath, InvalidSpecError, ProblemList, showValue } from '#libs/contracts';
import { isRecord } from './is-wf-format';

/** The fields of a task that a conversion needs. */
export interface WfTask {
  readonly id: string;
  readonly parents: readonly string[];
  /** Measured wall time, seconds. */
  readonly runtimeInSeconds: number;
  /** Place in `workflow.specification.tasks`. */
  readonly index: number;
}

/** The version that this code reads; other versions have other places for the fields. */
export const WF_SCHEMA_VERSION = '1.5';

const TASKS = ['workflow', 'specification', 'tasks'] as const;
const RUNS = ['workflow', 'execution', 'tasks'] as const;

/**
 * The tasks of a WfFormat 1.5 document with their measured runtimes.
 *
 * @throws InvalidSpecError with every problem: another version, no measured run, a task without a runtime, a parent
 * that is not there, two tasks with one id.
 */
export function readTasks(raw: Record<string, unknown>): WfTask[] {
  const problems = new ProblemList();
  const version = raw['schemaVersion'];
  if (version !== WF_SCHEMA_VERSION) {
    const message = `must be ${showValue(WF_SCHEMA_VERSION)}; it is ${showValue(version)}.`;
    throw new InvalidSpecError([{ path: 'schemaVersion', code: 'WF_FORMAT', message }]);
  }
  const tasks = listAt(raw, TASKS);
  if (tasks.length === 0)
    problems.add(TASKS, 'WF_FORMAT', 'must be a list of at least one task; it is an empty list.');
  const runtimes = readRuntimes(listAt(raw, RUNS), problems);
  const read = tasks.map((task, index) => readTask(task, index, runtimes, problems));
  checkReferences(read, problems);
  if (problems.count > 0) throw new InvalidSpecError(problems.toArray());
  return read;
}

function listAt(raw: Record<string, unknown>, path: readonly string[]): unknown[] {
  let value: unknown = raw;
  for (const part of path) value = isRecord(value) ? value[part] : undefined;
  if (Array.isArray(value)) return value;
  const message = `must be a list of tasks; it is ${showValue(value)}.`;
  throw new InvalidSpecError([{ path: formatPath(path), code: 'WF_FORMAT', message }]);
}

function readRuntimes(runs: readonly unknown[], problems: ProblemList): Map<string, number> {
  const runtimes = new Map<string, number>();
  runs.forEach((run, index) => {
    const id = isRecord(run) ? run['id'] : undefined;
    const seconds = isRecord(run) ? run['runtimeInSeconds'] : undefined;
    if (typeof id !== 'string')
      problems.add([...RUNS, index, 'id'], 'WF_FORMAT', `must be a task id; it is ${showValue(id)}.`);
    else if (typeof seconds !== 'number' || !Number.isFinite(seconds) || seconds < 0)
      problems.add(
        [...RUNS, index, 'runtimeInSeconds'],
        'WF_FORMAT',
        `must be a number of seconds, 0 or more; it is ${showValue(seconds)}.`,
      );
    if (typeof id === 'string') runtimes.set(id, seconds as number);
  });
  return runtimes;
}

function readTask(
  task: unknown,
  index: number,
  runtimes: ReadonlyMap<string, number>,
  problems: ProblemList,
): WfTask {
  const id = isRecord(task) ? task['id'] : undefined;
  const parents = (isRecord(task) ? task['parents'] : undefined) ?? [];
  const path = [...TASKS, index];
  if (typeof id !== 'string' || id === '')
    problems.add([...path, 'id'], 'WF_FORMAT', `must be a task id; it is ${showValue(id)}.`);
  else if (!runtimes.has(id))
    problems.add(
      path,
      'WF_FORMAT',
      `task ${showValue(id)} has no runtimeInSeconds in workflow.execution.tasks.`,
    );
  const good = Array.isArray(parents) && parents.every((parent) => typeof parent === 'string');
  if (!good)
    problems.add(
      [...path, 'parents'],
      'WF_FORMAT',
      `must be a list of task ids; it is ${showValue(parents)}.`,
    );
  return {
    id: String(id),
    parents: good ? [...new Set(parents)] : [],
    runtimeInSeconds: runtimes.get(String(id)) ?? 0,
    index,
  };
}

function checkReferences(tasks: readonly WfTask[], problems: ProblemList): void {
  const first = new Map<string, number>();
  for (const { id, index } of tasks) {
    const before = first.get(id);
    if (before === undefined) first.set(id, index);
    else
      problems.add(
        [...TASKS, index, 'id'],
        'WF_FORMAT',
        `tasks[${before}] has the id ${showValue(id)} already.`,
      );
  }
  for (const { parents, index } of tasks) {
    parents.forEach((parent, position) => {
      if (!first.has(parent))
        problems.add(
          [...TASKS, index, 'parents', position],
          'WF_FORMAT',
          `there is no task ${showValue(parent)}.`,
        );
    });
  }
}
