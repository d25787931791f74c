import { JOB_QUEUE_PATTERN, jobPoolOf, plainScope } from './jobs';
import { conditionsOf } from './scope';
import { selectorMatches } from './selector';
import { validateKillRequest, validateLatchRequest, validateLocalKill } from './spec-validation';

const job = (jobId: string) => ({ type: 'job', queue: 'reports', jobId }) as const;

describe('R78 a job as a scope', () => {
  it('is the selector of its two labels, whatever its id has', () => {
    expect(plainScope(job('42'))).toEqual({
      type: 'selector',
      selector: 'belay.queue=reports,belay.job=42',
    });
    for (const jobId of ['42', 'a b', 'a,b=c', '"quoted"', 'repeat:x:1']) {
      const scope = plainScope(job(jobId));
      const selector = conditionsOf(scope.type === 'selector' ? scope.selector : '');
      expect(selectorMatches(selector, { 'belay.queue': 'reports', 'belay.job': jobId })).toBe(true);
      expect(selectorMatches(selector, { 'belay.queue': 'reports', 'belay.job': `${jobId}1` })).toBe(false);
    }
    expect(plainScope({ type: 'all' })).toEqual({ type: 'all' });
  });

  it('is taken by a kill without a latch, by a freeze and a latch with one, and by a local kill', () => {
    const scope = plainScope(job('42'));
    expect(validateKillRequest({ scope: job('42') })).toEqual({ scope, kind: 'kill', latch: false });
    expect(validateKillRequest({ scope: job('42'), latch: true })).toMatchObject({ latch: true });
    expect(validateKillRequest({ scope: job('42'), kind: 'freeze' })).toMatchObject({ latch: true });
    expect(validateLatchRequest({ scope: job('42') })).toEqual({ scope });
    expect(validateLocalKill({ scope: job('42'), mode: 'immediate', by: 'me' })).toMatchObject({ scope });
  });

  it.each([
    [{ type: 'job' }, ['scope.queue REQUIRED', 'scope.jobId REQUIRED']],
    [{ type: 'job', queue: 7, jobId: '' }, ['scope.queue PATTERN', 'scope.jobId PATTERN']],
    [{ type: 'job', queue: 'a', jobId: '1', id: 2 }, ['scope.id UNKNOWN_FIELD']],
  ])('is refused: %j', (scope, expected) => {
    let told: string[] = [];
    try {
      validateKillRequest({ scope });
    } catch (error) {
      told = (error as { problems: { path: string; code: string }[] }).problems.map(
        ({ path, code }) => `${path} ${code}`,
      );
    }
    expect(told).toEqual(expected);
  });
});

it('the pool of a queue is a pool’s name', () => {
  const queue = 'x'.repeat(58);
  expect(JOB_QUEUE_PATTERN.test(queue)).toBe(true);
  expect(jobPoolOf(queue)).toMatch(/^[A-Za-z0-9_.-]{1,64}$/);
});
