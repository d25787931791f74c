import { Phases, type PhaseTrouble } from './phases';

describe('R47 a shutdown in phases', () => {
  it('goes on after a phase that fails and one that is stuck, and names both', async () => {
    const troubles: [string, PhaseTrouble][] = [];
    const phases = new Phases((...trouble) => troubles.push(trouble));
    const done: string[] = [];
    const cause = new Error('no');
    expect(await phases.run('first', 1_000, async () => done.push('first'))).toBe(true);
    expect(
      await phases.run('failing', 1_000, async () => {
        throw cause;
      }),
    ).toBe(false);
    expect(
      await phases.run('throwing', 1_000, () => {
        throw cause;
      }),
    ).toBe(false);
    const stuck = phases.run('stuck', 5, async () => new Promise(() => undefined));
    expect(phases.current).toBe('stuck');
    expect(await stuck).toBe(false);
    expect(phases.current).toBeUndefined();
    expect(await phases.run('last', 1_000, async () => done.push('last'))).toBe(true);
    expect(done).toEqual(['first', 'last']);
    expect(troubles).toEqual([
      ['failing', { error: cause }],
      ['throwing', { error: cause }],
      ['stuck', { boundMs: 5 }],
    ]);
    expect(phases.unfinished).toEqual(['failing', 'throwing', 'stuck']);
  });

  it('what a stuck phase does later is nobody’s error', async () => {
    const phases = new Phases(() => undefined);
    let fail: (error: Error) => void = () => undefined;
    await phases.run('stuck', 1, async () => new Promise((_, reject) => (fail = reject)));
    fail(new Error('late'));
    expect(phases.unfinished).toEqual(['stuck']);
  });
});
