import { closeSync } from 'node:fs';
import { descriptorSocket, openLibc, type Libc } from '../native';
import type { GuardianMessage } from './guardian-protocol';
import { GuardianStarts } from './guardian-starts';

const found = openLibc();
if (!('libc' in found)) process.stdout.write('Not tested without libc: the starts of a guardian.\n');
const describeLibc = 'libc' in found ? describe : describe.skip;

const plan = { file: '/bin/a', argv: ['a'], env: { A: 'x' }, cwd: '/', fds: [0] };

describeLibc('starts that are asked of a guardian', () => {
  let told: number[];
  let stuck: number;
  let starts: GuardianStarts;
  let guardian: { readonly ours: number; readonly theirs: number };

  const libc = (): Libc => {
    if (!('libc' in found)) throw new Error('no libc');
    return found.libc;
  };
  function newGuardian(): void {
    const [ours, theirs] = descriptorSocket(libc());
    guardian = { ours, theirs };
    starts.attach(ours);
  }
  function dies(): void {
    closeSync(guardian.theirs);
    starts.detach(guardian.ours);
  }
  const refusal = async (start: Promise<unknown>): Promise<unknown> =>
    start.then(
      () => 'started',
      (error: { code: string; details?: { reason: unknown } }) => error.details?.reason ?? error.code,
    );
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 10; i += 1) await Promise.resolve();
  };

  beforeEach(() => {
    jest.useFakeTimers();
    told = [];
    stuck = 0;
    starts = new GuardianStarts(libc(), {
      tell: (message: GuardianMessage) => void (message.type === 'start' && told.push(message.id)),
      stuck: () => (stuck += 1),
      hold: () => undefined,
    });
    newGuardian();
  });
  afterEach(() => {
    dies();
    starts.close();
    jest.useRealTimers();
  });

  it('R15 go to the next guardian when theirs dies before it has begun on them', async () => {
    const start = starts.start(plan);
    await turns();
    dies();
    await turns();
    newGuardian();
    await turns();
    expect(told).toEqual([1, 2]);
    starts.heard('begun 2');
    starts.heard('spawned 2 4194305');
    expect(await start).toMatchObject({ pid: 4_194_305 });
    starts.heard('exit 4194305 0 -');
  });

  it('R15 are refused when theirs dies after it has begun on them: there may be a process', async () => {
    const start = refusal(starts.start(plan));
    await turns();
    starts.heard('begun 1');
    dies();
    expect(await start).toBe('GUARDIAN');
    newGuardian();
    await turns();
    expect(told).toEqual([1]);
  });

  it('are given up after three guardians, or when there is none for 3 s', async () => {
    const start = refusal(starts.start(plan));
    await turns();
    for (let i = 0; i < 3; i += 1) {
      await turns();
      dies();
      newGuardian();
    }
    expect(await start).toBe('GUARDIAN');
    expect(told).toEqual([1, 2, 3]);
    dies();
    const other = refusal(starts.start(plan));
    await jest.advanceTimersByTimeAsync(4_000);
    expect(await other).toBe('GUARDIAN');
    newGuardian();
  });

  it('wait for as long as it answers others, and it is stuck once it answers none for 3 s', async () => {
    const all = [1, 2, 3].map(async () => refusal(starts.start(plan)));
    await turns();
    expect(told).toEqual([1, 2, 3]);
    await jest.advanceTimersByTimeAsync(2_900);
    starts.heard('failed 1 E2BIG');
    await jest.advanceTimersByTimeAsync(2_900);
    starts.heard('begun 2');
    await jest.advanceTimersByTimeAsync(2_900);
    expect(stuck).toBe(0);
    await jest.advanceTimersByTimeAsync(400);
    expect(stuck).toBeGreaterThan(0);
    starts.heard('failed 2 E2BIG');
    starts.heard('failed 3 E2BIG');
    expect(await Promise.all(all)).toEqual(['E2BIG', 'E2BIG', 'E2BIG']);
  });

  it('are asked for while less than 1 MiB is on its way, so that none waits for many large ones', async () => {
    const large = { ...plan, env: { A: 'x'.repeat(600_000) } };
    const all = [large, large, large, plan].map(async (one) => refusal(starts.start(one)));
    await turns();
    expect(told).toEqual([1, 2]);
    starts.heard('failed 1 E2BIG');
    await turns();
    expect(told).toEqual([1, 2, 3]);
    for (const id of [2, 3, 4]) {
      starts.heard(`failed ${id} E2BIG`);
      await turns();
    }
    expect(told).toEqual([1, 2, 3, 4]);
    expect(await Promise.all(all)).toEqual(['E2BIG', 'E2BIG', 'E2BIG', 'E2BIG']);
  });
});
