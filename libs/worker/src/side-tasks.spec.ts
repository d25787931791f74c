import { setTimeout as pause } from 'node:timers/promises';
import { SideTasks, type SideRun } from './side-tasks';

const errors: string[] = [];
let tasks: SideTasks;
const runs: SideRun[] = [];
function make(limitMs: number, run: (signal: AbortSignal) => Promise<unknown>, everyMs = 0): void {
  tasks = new SideTasks(
    [{ name: 'one', run, everyMs }],
    (error) => errors.push((error as Error).message),
    limitMs,
  );
  tasks.runs$.subscribe((done) => runs.push(done));
}
beforeEach(() => {
  errors.length = 0;
  runs.length = 0;
});
afterEach(() => tasks.stop());
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await pause(1);
};

it('has one run of a task at a time, and runs it again after a wake that came meanwhile', async () => {
  let under = 0;
  let most = 0;
  let begun = 0;
  make(10_000, async () => {
    begun++;
    most = Math.max(most, ++under);
    await pause(20);
    under--;
  });
  for (let i = 0; i < 10; i++) tasks.wake();
  await until(() => runs.length === 2);
  expect({ most, begun }).toEqual({ most: 1, begun: 2 });
});

it('leaves a run behind that hangs, tells it, and begins another; with three behind it begins no more', async () => {
  let begun = 0;
  const told: AbortSignal[] = [];
  make(20, async (signal) => {
    begun++;
    told.push(signal);
    await new Promise(() => undefined);
  });
  for (let i = 1; i <= 3; i++) {
    tasks.wake();
    await until(() => runs.length === i);
  }
  tasks.wake();
  expect(begun).toBe(3);
  expect(told.every(({ aborted }) => aborted)).toBe(true);
  expect(runs.map(({ end }) => end)).toEqual(['overran', 'overran', 'overran']);
  expect(errors[0]).toBe('one took longer than 20 ms; the worker goes on without it');
});

it('R27 tells how long a run took that was hurried meanwhile, and is due again after it', async () => {
  let release: () => void = () => undefined;
  make(10_000, async () => new Promise<void>((resolve) => (release = resolve)), 60_000);
  tasks.wake();
  tasks.hurry('one');
  release();
  await until(() => runs.length === 1);
  expect(runs[0]?.tookMs).toBeLessThan(10_000);
  tasks.wake();
  release();
  await until(() => runs.length === 2);
});

it('tells of a run that fails, and begins the next one all the same', async () => {
  make(1_000, () => {
    throw new Error('no');
  });
  tasks.wake();
  await until(() => runs.length === 1);
  tasks.wake();
  await until(() => runs.length === 2);
  expect(errors).toEqual(['no', 'no']);
});

it('keeps the time between two runs, unless it is hurried, and begins none once it was stopped', async () => {
  let begun = 0;
  make(1_000, async () => begun++, 3_600_000);
  tasks.wake();
  await until(() => runs.length === 1);
  tasks.wake();
  expect(begun).toBe(1);
  tasks.hurry('one');
  tasks.wake();
  await until(() => runs.length === 2);
  tasks.hurry('one');
  tasks.stop();
  tasks.wake();
  expect(begun).toBe(2);
});
