import { checkSpec } from './validate-spec';

const good = (input: unknown) => ({ name: 'x', nodes: [{ id: 'a', run: { command: ['true'] }, input }] });

function told(raw: unknown): string[] {
  const result = checkSpec(raw);
  return result.ok ? [] : result.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
}

const nested = (levels: number): unknown => (levels === 0 ? 1 : [nested(levels - 1)]);

describe('keys that could reach a prototype', () => {
  const KEY = 'UNSAFE_KEY is a key that is never accepted; rename it.';

  it('are refused anywhere in a spec, and pollute nothing', () => {
    const raw: unknown = JSON.parse(
      `{"name":"x","__proto__":{"polluted":1},"labels":{"constructor":"a"},"nodes":[
         {"id":"a","__proto__":null,"run":{"command":["x"],"env":{"__proto__":"a","prototype":"b"}}}]}`,
    );
    expect(told(raw)).toEqual([
      `__proto__ ${KEY}`,
      `labels.constructor ${KEY}`,
      `nodes[0].__proto__ ${KEY}`,
      `nodes[0].run.env.__proto__ ${KEY}`,
      `nodes[0].run.env.prototype ${KEY}`,
    ]);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('are __proto__ alone inside an input, where the others are ordinary words', () => {
    const raw: unknown = JSON.parse('[{"constructor":1,"prototype":2},{"deep":{"__proto__":{}}}]');
    expect(told(good(raw))).toEqual([`nodes[0].input[1].deep.__proto__ ${KEY}`]);
  });

  it('are no node ids and no pools', () => {
    const raw = { name: 'x', nodes: [{ id: '__proto__', pool: 'constructor', run: { command: ['x'] } }] };
    expect(told(raw)).toEqual([
      'nodes[0].id UNSAFE_KEY __proto__ is a name that is never accepted; choose another.',
      'nodes[0].pool UNSAFE_KEY constructor is a name that is never accepted; choose another.',
    ]);
  });
});

describe('text that UTF-8 cannot store', () => {
  it('is refused in values and in keys; whole pairs are fine', () => {
    const half = 'half of a surrogate pair, which UTF-8 cannot store; remove it.';
    expect(told({ ...good({ ['\udc00']: '🚀' }), name: 'a\ud800' })).toEqual([
      `name NOT_UNICODE contains ${half}`,
      `nodes[0].input NOT_UNICODE has a key with ${half}`,
    ]);
  });
});

describe('values that JSON cannot carry', () => {
  it.each<[string, unknown, string]>([
    ['NaN', Number.NaN, 'NaN'],
    ['Infinity', Infinity, 'Infinity'],
    ['a function', () => 1, 'a function'],
    ['a symbol', Symbol('x'), 'a symbol'],
    ['a big integer', 1n, 'a bigint'],
    ['a date', new Date(0), 'an object of a class'],
    ['a map', new Map(), 'an object of a class'],
    ['a hole in a list', undefined, 'missing'],
  ])('%s', (_, value, seen) => {
    expect(told(good([value]))).toEqual([
      `nodes[0].input[0] NOT_JSON must be a value JSON can carry; it is ${seen}.`,
    ]);
  });

  it('objects without a prototype are plain', () => {
    expect(told(good(Object.assign(Object.create(null), { a: 1 })))).toEqual([]);
  });
});

describe('nesting and size', () => {
  it('takes an input of 64 levels and refuses one of 65', () => {
    expect(told(good(nested(64)))).toEqual([]);
    expect(told(good(nested(65)))).toEqual([
      `nodes[0].input${'[0]'.repeat(64)} TOO_DEEP is nested more than 64 levels deep; flatten it.`,
    ]);
  });

  it('refuses a value that contains itself', () => {
    const loop: Record<string, unknown> = {};
    loop['again'] = loop;
    expect(told(good(loop))).toEqual([
      `nodes[0].input${'.again'.repeat(64)} TOO_DEEP is nested more than 64 levels deep; flatten it.`,
    ]);
  });

  it('refuses few values that unfold into billions, and soon', () => {
    let bomb: unknown[] = Array.from({ length: 10 }, () => 1);
    for (let i = 0; i < 12; i++) bomb = Array.from({ length: 10 }, () => bomb);
    const problems = told(good(bomb));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/TOO_LARGE has more than 5000000 values; split it up\.$/);
  });
});
