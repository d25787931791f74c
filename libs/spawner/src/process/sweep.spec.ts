import { Sweeper } from './sweep';
import { TurnQueue } from './turn-queue';

describe('one pass over /proc for everyone who waits', () => {
  it('serves a thousand who ask at once with one pass, and those who ask later with the next', async () => {
    const sweeper = new Sweeper();
    const first = Array.from({ length: 1_000 }, () => sweeper.sweep());
    const [one, ...others] = await Promise.all(first);
    expect(new Set([one, ...others]).size).toBe(1);
    expect(sweeper.passes).toBe(1);
    await sweeper.sweep();
    expect(sweeper.passes).toBe(2);
  });

  it('gives who asks during a pass one that begins later', async () => {
    let duringPass: Promise<unknown> | undefined;
    const sweeper = new Sweeper(undefined, () => {
      duringPass ??= sweeper.sweep();
    });
    const pass = await sweeper.sweep();
    expect(await duringPass).not.toBe(pass);
    expect(sweeper.passes).toBe(2);
  });

  it('sees neither this process nor kernel threads', async () => {
    const { byPid } = await new Sweeper().sweep();
    expect(byPid.has(process.pid)).toBe(false);
    expect(byPid.has(1)).toBe(false);
  });
});

describe('jobs in turns', () => {
  it('run in order, at once while there is time, and let the event loop breathe', async () => {
    const queue = new TurnQueue();
    const order: number[] = [];
    const spin = () => {
      const until = performance.now() + 2;
      while (performance.now() < until);
    };
    let turns = 0;
    const count = setInterval(() => (turns += 1), 1);
    const jobs = Array.from({ length: 30 }, (_, index) => queue.run(() => (spin(), order.push(index))));
    expect(order.length).toBeLessThan(10);
    await Promise.all(jobs);
    clearInterval(count);
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(turns).toBeGreaterThan(2);
  });

  it('hand on what a job throws and go on', async () => {
    const queue = new TurnQueue();
    await expect(
      queue.run(() => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    await expect(queue.run(() => 7)).resolves.toBe(7);
  });
});
