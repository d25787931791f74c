import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { freezerMissing, holdUnkillable, removeHold } from '../../../../test/trees/freezer';
import { endWorkerTrees } from './end-worker-trees';
import { Rounds } from './ended-trees';
import { WORKER_COOKIE_VARIABLE } from './sweep';
import { describeUnproved } from './unproved';

const missing = freezerMissing();
if (missing !== undefined) process.stdout.write(`Not tested: what cannot be killed. ${missing}.\n`);

describe('R17 R51 the end of a worker’s trees', () => {
  let cookie: string;
  let child: ChildProcess & { readonly pid: number };
  beforeEach(() => {
    cookie = randomBytes(16).toString('hex');
    const env = { [WORKER_COOKIE_VARIABLE]: cookie };
    child = spawn('sleep', ['600'], { env, stdio: 'ignore' }) as typeof child;
  });
  afterEach(() => void child.kill('SIGKILL'));
  const end = async (boundMs: number) =>
    endWorkerTrees({ cookie, cgroup: undefined, leaders: [] }, boundMs, undefined);

  it('is not given up because the time is over before anything was tried: a machine may stand still', async () => {
    const exited = once(child, 'exit');
    expect(await end(0)).toMatchObject({ proved: true, processes: [{ pid: child.pid }] });
    expect(await exited).toEqual([null, 'SIGKILL']);
  });

  (missing === undefined ? it : it.skip)('says who is left when it is not proved', async () => {
    const exited = once(child, 'exit');
    const letGo = holdUnkillable(child.pid);
    try {
      const { proved, unproved } = await end(50);
      expect(proved).toBe(false);
      expect(unproved).toMatchObject({ why: 'alive', processes: [{ pid: child.pid, command: 'sleep' }] });
      expect(unproved?.rounds).toBeGreaterThanOrEqual(10);
      expect(unproved && describeUnproved(unproved)).toMatch(
        new RegExp(`^alive: ${child.pid} \\(sleep\\) \\(\\d+ rounds in \\d+ ms\\)$`),
      );
    } finally {
      letGo();
      await exited;
      removeHold(child.pid);
    }
  });
});

it('R17 a bound of rounds needs the time to be over and enough of them', async () => {
  const early = new Rounds(60_000);
  for (let round = 1; round <= 20; round += 1) expect(early.giveUp({ why: 'populated' })).toBeUndefined();
  const late = new Rounds(-1);
  for (let round = 1; round < 10; round += 1) expect(late.giveUp({ why: 'unsound' })).toBeUndefined();
  expect(late.giveUp({ why: 'error', code: 'EMFILE' })).toMatchObject({
    why: 'error',
    code: 'EMFILE',
    rounds: 10,
  });
});
