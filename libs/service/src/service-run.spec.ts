import { ServiceRun } from './service-run';

function make(start: () => Promise<void> = async () => undefined) {
  const calls: string[] = [];
  const run = new ServiceRun({
    start: async () => {
      calls.push('start');
      await start();
    },
    drain: async (started) => {
      calls.push(`drain ${started}`);
      return started;
    },
  });
  return { run, calls };
}

describe('R41 the life of a service', () => {
  it('goes idle, running, draining, stopped, each visible at once', async () => {
    const { run } = make();
    expect(run.state).toBe('idle');
    await run.start();
    expect(run.state).toBe('running');
    const drained = run.drain();
    expect(run.state).toBe('draining');
    await drained;
    expect(run.state).toBe('stopped');
  });

  it('makes two starts one, and every drain the same one', async () => {
    const { run, calls } = make();
    await Promise.all([run.start(), run.start()]);
    expect(await Promise.all([run.drain(), run.drain()])).toEqual([true, true]);
    expect(calls).toEqual(['start', 'drain true']);
  });

  it('is idle again after a failed start, and can be started then', async () => {
    let fail = true;
    const { run } = make(async () => {
      if (fail) throw new Error('no');
    });
    await expect(run.start()).rejects.toThrow('no');
    expect(run.state).toBe('idle');
    fail = false;
    await run.start();
    expect(run.state).toBe('running');
  });

  it('honours a drain during the start, and refuses to start after it', async () => {
    let letGo: () => void = () => undefined;
    const { run, calls } = make(async () => new Promise<void>((resolve) => (letGo = resolve)));
    const started = run.start();
    const drained = run.drain();
    letGo();
    await started;
    expect(await drained).toBe(true);
    expect(calls).toEqual(['start', 'drain true']);
    await expect(run.start()).rejects.toMatchObject({ code: 'DRAINING' });
  });

  it('stops one that never started, or whose start failed meanwhile, and is stopped even when its drain fails', async () => {
    const { run } = make();
    expect(await run.drain()).toBe(false);
    const failing = make(async () => Promise.reject(new Error('no')));
    const started = failing.run.start();
    const drained = failing.run.drain();
    await expect(started).rejects.toThrow('no');
    expect(await drained).toBe(false);
    const broken = new ServiceRun({
      start: async () => undefined,
      drain: async () => Promise.reject(new Error('stuck')),
    });
    await broken.start();
    await expect(broken.drain()).rejects.toThrow('stuck');
    expect(broken.state).toBe('stopped');
  });
});
