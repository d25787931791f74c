import { gradeOf, lowestGrade, type Evidence, type EvidenceKind } from './evidence';

const evidence = (...kinds: EvidenceKind[]): Evidence[] => kinds.map((kind) => ({ kind, afterMs: 0 }));

describe('R51 the grade of a proof', () => {
  it.each<[EvidenceKind[], 'kernel' | 'marks']>([
    [['exit', 'cgroup-empty', 'descent-empty'], 'kernel'],
    [['exit', 'descent-empty'], 'kernel'],
    [['exit', 'namespace-ended'], 'kernel'],
    [['cgroup-empty', 'uid-empty'], 'kernel'],
    // A process that may write another cgroup leaves its own.
    [['exit', 'cgroup-empty'], 'marks'],
    [['exit', 'cgroup-empty', 'sweep-empty'], 'marks'],
    [['not-started'], 'kernel'],
    [['exit', 'sweep-empty'], 'marks'],
    [['exit'], 'marks'],
    [[], 'marks'],
  ])('of %j is %s', (kinds, grade) => {
    expect(gradeOf({ proved: true, evidence: evidence(...kinds) })).toBe(grade);
    expect(gradeOf({ proved: false, evidence: evidence(...kinds) })).toBeUndefined();
  });

  it('of many is the lowest', () => {
    expect(lowestGrade(['kernel', 'marks', 'kernel'])).toBe('marks');
    expect(lowestGrade(['kernel', 'kernel'])).toBe('kernel');
    expect(lowestGrade([])).toBeUndefined();
  });
});
