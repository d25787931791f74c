import { judge, type Report, type Sighting } from './hostile-drill';

const SEES: Sighting = { sees: true, alive: [] };
const report = (more: Partial<Report> = {}): Report => ({
  uid: 1_000,
  embedded: false,
  attacks: [],
  left: [],
  ...more,
});
const could = (name: string, what = 'x'): Report => report({ attacks: [{ name, could: true, what }] });
const first = (...given: Parameters<typeof judge>): unknown => judge(...given)[0]?.outcome;

describe('R55 an attack of a hostile drill', () => {
  it('that failed is refused, and one that nothing was there for is absent', () => {
    const attacks = [
      { name: 'signal', could: false, what: '' },
      { name: 'hand-to-daemon', could: null, what: '' },
    ];
    const [signal, daemon, way] = judge({ isolation: 'same-user' }, report({ attacks }), SEES);
    expect([signal, daemon]).toEqual([
      { name: 'signal', outcome: 'refused' },
      { name: 'hand-to-daemon', outcome: 'absent' },
    ]);
    expect(way).toEqual({ name: 'leave:own-session', outcome: 'absent' });
  });

  it.each([
    ['read-secrets', 'token'],
    ['signal', 'worker'],
    ['use-server', 'with its password'],
    ['release-latch', 'with the token'],
  ])(
    '%s that succeeded is named for agents of the same user, and broken for agents with their own',
    (name, what) => {
      expect(first({ isolation: 'same-user', grade: 'kernel' }, could(name, what), SEES)).toBe('named');
      expect(first({ isolation: 'user', grade: 'kernel' }, could(name, what), SEES)).toBe('broken');
    },
  );

  it.each([
    ['use-server', 'without a password'],
    ['release-latch', 'without a token'],
  ])('%s %s is broken in each isolation', (name, what) => {
    expect(first({ isolation: 'same-user', grade: 'kernel' }, could(name, what), SEES)).toBe('broken');
  });

  it.each(['read-environment', 'read-memory', 'list-descriptors'])(
    '%s is broken, unless agents are root, nothing could be closed, or a host embeds the worker',
    (name) => {
      const kernel = { isolation: 'same-user', grade: 'kernel' } as const;
      expect(first(kernel, could(name, 'worker'), SEES)).toBe('broken');
      expect(first(kernel, { ...could(name, 'worker'), uid: 0 }, SEES)).toBe('named');
      expect(first({ ...kernel, grade: 'marks' }, could(name, 'worker'), SEES)).toBe('named');
      expect(first(kernel, { ...could(name, 'host'), embedded: true }, SEES)).toBe('named');
      expect(first(kernel, { ...could(name, 'host, guardian'), embedded: true }, SEES)).toBe('broken');
    },
  );

  it('that left its tree and lives is broken, and named where proofs rest on marks', () => {
    const left = [{ name: 'unmarked', pid: 5, start: '1' }];
    const of = (grade: 'kernel' | 'marks', seen: Sighting, isolation: 'same-user' | 'user' = 'same-user') =>
      judge({ isolation, grade }, report({ left }), seen).find(({ name }) => name === 'leave:unmarked');
    expect(of('kernel', SEES)).toEqual({ name: 'leave:unmarked', outcome: 'refused' });
    const lives: Sighting = { sees: true, alive: ['unmarked'] };
    expect(of('kernel', lives)).toMatchObject({ outcome: 'broken', detail: 'outlived the kill' });
    expect(of('marks', lives)).toMatchObject({ outcome: 'named' });
    expect(of('marks', lives, 'user')).toMatchObject({ outcome: 'broken' });
    expect(of('kernel', { sees: false, alive: [] })).toMatchObject({
      outcome: 'broken',
      detail: 'no process could check whether it lives',
    });
  });

  it('that left a PID namespace cannot be checked by another agent, and does not count as refused', () => {
    const left = [{ name: 'unmarked', pid: 7, start: '1' }];
    const worker = { isolation: 'same-user', grade: 'kernel', containment: 'namespace' } as const;
    const results = judge(worker, report({ left }), { sees: false, alive: [] });
    expect(results.find(({ name }) => name === 'leave:unmarked')).toMatchObject({
      outcome: 'absent',
      detail: expect.stringContaining('not checked'),
    });
  });
});
