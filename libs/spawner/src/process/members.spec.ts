import { findMembers, type TreeMarks } from './members';
import type { Sweep, SweptProcess } from './sweep';

const LEADER = { pid: 100, startTime: '1000' };

function swept(pid: number, more: Partial<SweptProcess> = {}): SweptProcess {
  return {
    pid,
    command: 'x',
    state: 'S',
    parent: 1,
    group: pid,
    session: pid,
    threads: 1,
    startTime: '1500',
    cookies: [],
    ...more,
  };
}

function sweepOf(...processes: SweptProcess[]): Sweep {
  const group = <K>(keys: (seen: SweptProcess) => readonly K[]) => {
    const map = new Map<K, SweptProcess[]>();
    for (const seen of processes) for (const key of keys(seen)) map.set(key, [...(map.get(key) ?? []), seen]);
    return map;
  };
  return {
    sound: true,
    byPid: new Map(processes.map((seen) => [seen.pid, seen])),
    byCookie: group((seen) => seen.cookies),
    bySession: group((seen) => [seen.session]),
    children: group((seen) => [seen.parent]),
  };
}

function pidsOf(sweep: Sweep, marks: Partial<TreeMarks> = {}): number[] {
  const whole = {
    leader: LEADER,
    cookie: 'c',
    reapedAt: undefined,
    known: new Map<number, string>(),
    ...marks,
  };
  return findMembers(sweep, whole).map(({ pid }) => pid);
}

describe('R21 the members of a tree', () => {
  it('include a process with the cookie, and never match an empty one', () => {
    expect(pidsOf(sweepOf(swept(5, { cookies: ['c'] }), swept(6, { cookies: ['d'] })))).toEqual([5]);
    expect(pidsOf(sweepOf(swept(5, { cookies: [''] })), { cookie: '' })).toEqual([]);
  });

  it('takes the leader and known members by start time, not by pid alone', () => {
    expect(pidsOf(sweepOf(swept(100, { startTime: '1000', session: 1 })))).toEqual([100]);
    expect(pidsOf(sweepOf(swept(100, { session: 1 })))).toEqual([]);
    const known = new Map([[7, '1500']]);
    expect(pidsOf(sweepOf(swept(7)), { known })).toEqual([7]);
    expect(pidsOf(sweepOf(swept(7, { startTime: '1501' })), { known })).toEqual([]);
  });

  it('takes the whole session while the leader is not reaped', () => {
    expect(pidsOf(sweepOf(swept(8, { session: 100 })))).toEqual([8]);
  });

  it('include, in a session without leader, a process born before the leader was reaped, and with it the others', () => {
    const older = swept(8, { session: 100, startTime: '1500' });
    const younger = swept(9, { session: 100, startTime: '3000' });
    expect(pidsOf(sweepOf(older, younger), { reapedAt: 2_000 })).toEqual([8, 9]);
  });

  it('include no process of a session that may be a stranger with the same number', () => {
    const stranger = swept(100, { session: 100, startTime: '2500' });
    const child = swept(9, { session: 100, startTime: '3000', parent: 100 });
    expect(pidsOf(sweepOf(stranger, child), { reapedAt: 2_000 })).toEqual([]);
  });

  it('include no process born in the very tick in which the leader was reaped', () => {
    const stranger = swept(100, { session: 100, startTime: '2000' });
    const child = swept(9, { session: 100, startTime: '2000', parent: 1 });
    expect(pidsOf(sweepOf(stranger), { reapedAt: 2_000 })).toEqual([]);
    expect(pidsOf(sweepOf(child), { reapedAt: 2_000 })).toEqual([]);
    expect(
      pidsOf(sweepOf(stranger, swept(8, { session: 100, startTime: '1900' })), { reapedAt: 2_000 }),
    ).toEqual([]);
  });

  it('follows parents only while they live', () => {
    // No process of this pid and start time exists on this machine, so the chain is not believed.
    const parent = swept(2 ** 30, { cookies: ['c'] });
    expect(pidsOf(sweepOf(parent, swept(9, { parent: 2 ** 30 })))).toEqual([2 ** 30]);
  });
});
