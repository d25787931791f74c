import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { limitsFor, markOf, readMark, SET_MARK } from './limit-mark';
import { Sweeper, WORKER_COOKIE_VARIABLE } from './sweep';

const children: ChildProcess[] = [];

/** A process behind the shim, and the pid that it prints. */
async function start(script: string, marks = limitsFor('worker cookie', 'agent cookie')): Promise<number> {
  const child = spawn('/bin/sh', ['-c', `${SET_MARK}; exec "$@"`, 'sh', ...marks, '/bin/sh', '-c', script]);
  children.push(child);
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return Number(String(line).trim());
}

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

it.each([
  ['the program itself', 'echo $$; read -r end'],
  [
    'what it starts with no environment in a session of its own',
    'env -i setsid /bin/sh -c "echo \\$\\$; read -r end"',
  ],
])('marks %s', async (_, script) => {
  const pid = await start(script);
  expect(readMark(pid, 'agent')).toEqual([markOf('agent cookie')]);
  expect(readMark(pid, 'worker')).toEqual([markOf('worker cookie')]);
  const byAgent = await new Sweeper().sweep();
  const byWorker = await new Sweeper(WORKER_COOKIE_VARIABLE).sweep();
  for (const found of [
    byAgent.byCookie.get(markOf('agent cookie')),
    byWorker.byCookie.get(markOf('worker cookie')),
  ])
    expect(found?.map((seen) => seen.pid)).toContain(pid);
});

it('sees no mark in an ordinary limit, in none, and in a process that is gone', async () => {
  expect(readMark(process.pid, 'agent')).toEqual([]);
  expect(readMark(await start('echo $$; read -r end', ['7', '5']), 'worker')).toEqual([]);
  expect(readMark(0x7fffffff, 'agent')).toEqual([]);
});

it('gives two cookies two marks', () => {
  expect(markOf('a')).not.toBe(markOf('b'));
});
