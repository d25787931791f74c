import { formatSelector, parseSelector, selectorMatches, type Selector } from '.';

const read = (text: string): Selector => {
  const { selector, problems } = parseSelector(text);
  if (selector === undefined) throw new Error(problems.map(({ message }) => message).join('\n'));
  return selector;
};
const matches = (text: string, labels: Record<string, string>): boolean =>
  selectorMatches(read(text), labels);

describe('selectors', () => {
  it('reads every shape', () => {
    expect(read('team=data, env != prod ,model in (a, b),zone notin (x,x),!draft,gpu')).toEqual([
      { key: 'team', op: 'in', values: ['data'] },
      { key: 'env', op: 'notin', values: ['prod'] },
      { key: 'model', op: 'in', values: ['a', 'b'] },
      { key: 'zone', op: 'notin', values: ['x'] },
      { key: 'draft', op: 'absent' },
      { key: 'gpu', op: 'exists' },
    ]);
    expect(read('a=="b, \\"c\\" (d)"')).toEqual([{ key: 'a', op: 'in', values: ['b, "c" (d)'] }]);
  });

  it('is met when every condition is met; != and notin also where the label is absent', () => {
    expect(matches('team=data', { team: 'data' })).toBe(true);
    expect(matches('team=data', { team: 'ml' })).toBe(false);
    expect(matches('team=data', {})).toBe(false);
    expect(matches('env!=prod', {})).toBe(true);
    expect(matches('env!=prod', { env: 'prod' })).toBe(false);
    expect(matches('env notin (a,b)', { env: 'c' })).toBe(true);
    expect(matches('gpu', { gpu: '' })).toBe(true);
    expect(matches('!gpu', { gpu: '' })).toBe(false);
    expect(matches('!gpu', {})).toBe(true);
    expect(matches('team=data,env=prod', { team: 'data', env: 'test' })).toBe(false);
  });

  it('does not take the properties that every object inherits for labels', () => {
    expect(matches('constructor', {})).toBe(false);
    expect(matches('!toString', {})).toBe(true);
  });

  it('writes the text that it reads', () => {
    const text = 'team=data,env!=prod,model in (a,"b c"),!draft,gpu';
    expect(formatSelector(read(text))).toBe(text);
    expect(read(formatSelector(read('a = "x,\\"y"')))).toEqual(read('a="x,\\"y"'));
  });

  it('an empty selector is refused: everything must be said on purpose', () => {
    expect(parseSelector('  ').problems).toEqual([
      expect.objectContaining({ code: 'REQUIRED', message: expect.stringContaining('use the scope all') }),
    ]);
  });

  it('names every fault at once', () => {
    const bad = ['a b', '=x', 'k in ()', 'k in (a', '.k=v', 'k=', 'k="\\x"', 'k=v=w', ''];
    const { problems } = parseSelector(bad.join(','));
    // The unclosed bracket includes the text after it.
    expect(problems).toHaveLength(4);
    expect(problems?.map(({ message }) => message)).toContain(
      'has "a b", which is none of key=value, key!=value, key in (a,b), key notin (a,b), key or !key.',
    );
    for (const text of bad)
      expect({ text, selector: parseSelector(text).selector }).toEqual({ text, selector: undefined });
  });

  it('is bounded', () => {
    expect(parseSelector(Array.from({ length: 51 }, (_, i) => `k${i}`).join(',')).problems).toEqual([
      { code: 'LENGTH', message: 'has 51 conditions; at most 50 are read.' },
    ]);
  });
});
