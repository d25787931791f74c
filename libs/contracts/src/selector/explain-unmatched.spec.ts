import { explainUnmatched } from './explain-unmatched';
import { parseSelector } from './selector';

const KNOWN = [{ env: 'prod', team: 'data' }, { env: 'staging' }, { gpu: 'a100' }];

function told(selector: string, known: readonly Record<string, string>[] = KNOWN) {
  const { selector: conditions = [] } = parseSelector(selector);
  const warning = explainUnmatched(conditions, known);
  return warning && { hint: warning.message.split('. ').at(-1), suggestion: warning.suggestion };
}

describe('a selector that meets nothing', () => {
  it.each([
    ['env=prdo', 'Did you mean env=prod?', 'env=prod'],
    ['evn=prod', 'Did you mean env=prod?', 'env=prod'],
    ['evn', 'Did you mean env?', 'env'],
    // A label that must be absent may be unknown.
    ['env=prdo,!canary', 'Did you mean env=prod,!canary?', 'env=prod,!canary'],
    ['evn in (prod,stagign)', 'Did you mean env in (prod,staging)?', 'env in (prod,staging)'],
    ['region=eu', 'Known labels: env, gpu, team.', undefined],
    ['gpu=zzzzzzz', 'Known values of gpu: a100.', undefined],
    ['gpu=a100,team=data', 'Each of these labels is known, but nothing has all of them.', undefined],
  ])('%s: %s', (selector, hint, suggestion) => {
    expect(told(selector)).toEqual({ hint, suggestion });
  });

  it('is not explained where something meets it', () => {
    expect(told('env=prod')).toBeUndefined();
  });

  it('says so where no label is known', () => {
    expect(told('env=prod', [])).toEqual({ hint: 'No label is known.', suggestion: undefined });
  });

  it('lists ten known names and counts the others', () => {
    const known = [Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`label-${i}`, 'x']))];
    expect(told('zzzzzzzz=1', known)?.hint).toMatch(
      /^Known labels: (label-\d+, ){9}label-\d+, and 2 more\.$/,
    );
  });
});
