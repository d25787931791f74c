import { SPEC_LIMITS } from '#libs/contracts';
import { refuseFile } from '../refuse-file';
import { isRecord } from './is-wf-format';
import { mapIds } from './map-ids';
import { readTasks, type WfTask } from './read-tasks';

export interface WfConversionOptions {
  /** Seconds of real time for each second measured: above 0, finite, 1 by default. 0.01 is a hundred times faster. */
  readonly timeScale?: number;
  /** The pool of every node; the default pool where absent. */
  readonly pool?: string;
}

/** The result of converting a WfFormat document. Times in seconds, scaled. */
export interface WfReport {
  readonly name: string;
  readonly tasks: number;
  readonly edges: number;
  readonly timeScale: number;
  /** The command of each task, in words. */
  readonly command: string;
  /** The sum over all tasks. */
  readonly workSeconds: number;
  /** The longest sum along a path: no run can be shorter. 0 where the graph has a cycle, which validation reports. */
  readonly criticalPathSeconds: number;
  /** Tasks whose id had to be changed, by their new id. */
  readonly renamed: Readonly<Record<string, string>>;
}

export interface WfConversion {
  /** A spec for `validateSpec`, which still checks it and reports a cycle in the trace. */
  readonly spec: unknown;
  readonly report: WfReport;
}

/** The most seconds that one task may sleep: the largest `timeoutMs` of a node. */
const MAX_SECONDS = SPEC_LIMITS.maxDurationMs / 1_000;

/**
 * Makes an execution spec of a WfFormat 1.5 document (WfCommons): each task becomes a node that runs coreutils'
 * `sleep` for as long as the task was measured to take, times `timeScale`, after its parents.
 *
 * @throws InvalidSpecError with every problem of the document, or when `timeScale` is not a number above 0.
 */
export function convertWfFormat(raw: unknown, options: WfConversionOptions = {}): WfConversion {
  const { timeScale = 1, pool } = options;
  if (!Number.isFinite(timeScale) || timeScale <= 0)
    return refuseFile('RANGE', `must be a finite number above 0; it is ${timeScale}.`, 'timeScale');
  if (!isRecord(raw)) return refuseFile('WF_FORMAT', 'must be an object with schemaVersion and workflow.');
  const tasks = readTasks(raw);
  const ids = mapIds(tasks.map((task) => task.id));
  const seconds = tasks.map((task) => roundMs(task.runtimeInSeconds * timeScale));
  seconds.forEach(refuseEndless);
  const nodes = tasks.map((task, index) => ({
    id: ids.get(task.id),
    dependsOn: task.parents.map((parent) => ids.get(parent)),
    // The shortest notation, such as 0.5, never 5e-7: coreutils would read that, but people do not.
    run: { command: ['sleep', formatSeconds(seconds[index] as number)] },
    ...(pool === undefined ? {} : { pool }),
  }));
  const name = nameOf(raw);
  return {
    spec: { name, labels: { source: 'wfformat' }, nodes },
    report: {
      name,
      tasks: tasks.length,
      edges: tasks.reduce((sum, task) => sum + task.parents.length, 0),
      timeScale,
      command: 'sleep SECONDS, one process for each task',
      workSeconds: roundMs(seconds.reduce((sum, each) => sum + each, 0)),
      criticalPathSeconds: roundMs(criticalPath(tasks, seconds)),
      renamed: Object.fromEntries(
        [...ids].filter(([from, to]) => from !== to).map(([from, to]) => [to, from]),
      ),
    },
  };
}

function refuseEndless(seconds: number, index: number): void {
  if (seconds <= MAX_SECONDS) return;
  const message = `would run for ${seconds} seconds, longer than ${MAX_SECONDS}; choose a smaller time scale.`;
  refuseFile('RANGE', message, `workflow.specification.tasks[${index}]`);
}

const roundMs = (seconds: number): number => Math.round(seconds * 1_000) / 1_000;

const formatSeconds = (seconds: number): string => seconds.toFixed(3).replace(/\.?0+$/, '');

/** The document's name in the form of a spec's: one line, bounded. */
function nameOf(raw: Record<string, unknown>): string {
  const given = typeof raw['name'] === 'string' ? raw['name'] : '';
  const clean = given
    .replaceAll(/\p{C}+/gu, ' ')
    .trim()
    .slice(0, SPEC_LIMITS.maxTextLength);
  return clean === '' ? 'wfformat' : clean;
}

/** Longest path by Kahn's order: linear, no recursion. */
function criticalPath(tasks: readonly WfTask[], seconds: readonly number[]): number {
  const indexOf = new Map(tasks.map((task, index) => [task.id, index]));
  const children: number[][] = tasks.map(() => []);
  const waiting = tasks.map((task) => task.parents.length);
  tasks.forEach((task, index) => {
    for (const parent of task.parents) children[indexOf.get(parent) as number]?.push(index);
  });
  const startsAt = tasks.map(() => 0);
  const ready = [...tasks.keys()].filter((index) => waiting[index] === 0);
  let longest = 0;
  for (const index of ready) {
    const end = (startsAt[index] as number) + (seconds[index] as number);
    longest = Math.max(longest, end);
    for (const child of children[index] as number[]) {
      startsAt[child] = Math.max(startsAt[child] as number, end);
      waiting[child] = (waiting[child] as number) - 1;
      if (waiting[child] === 0) ready.push(child);
    }
  }
  return ready.length === tasks.length ? longest : 0;
}
