import {
  conditionsOf,
  formatSelector,
  parseSelector,
  selectorMatches,
  type Requirement,
} from '#libs/contracts';
import { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import fc from 'fast-check';
import { expectProperty } from './runs';
import { node, spec, useLife } from '../support/life';

type Labels = Record<string, string>;

/** Few names, so that conditions and labels meet; some of them have a meaning in JavaScript or Lua. */
const NAMES = ['team', 'a.b/c-d', 'in', 'notin', 'toString', 'valueOf', 'nil', '0', 'hasOwnProperty'];
const keys = fc.constantFrom(...NAMES);
const anyKeys = fc.oneof(keys, fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_./-]{0,30}$/));
const VALUES = [
  '',
  'x',
  'X',
  'a,b',
  '(a)',
  'a"b',
  'back\\slash',
  'é',
  '𝄞',
  ' x',
  'x ',
  '%d',
  'null',
  'true',
  '!',
  '==',
  '1',
];
const values = fc.constantFrom(...VALUES);
const anyValues = fc.oneof(values, fc.string({ unit: 'binary', maxLength: 12 }), fc.string());

const requirements = (
  key: fc.Arbitrary<string>,
  value: fc.Arbitrary<string>,
): fc.Arbitrary<[Requirement, ...Requirement[]]> =>
  fc.array(
    fc.oneof(
      fc.record({
        key,
        op: fc.constantFrom('in' as const, 'notin' as const),
        values: fc.uniqueArray(value, { minLength: 1, maxLength: 4 }),
      }),
      fc.record({ key, op: fc.constantFrom('exists' as const, 'absent' as const) }),
    ),
    { minLength: 1, maxLength: 5 },
  ) as fc.Arbitrary<[Requirement, ...Requirement[]]>;
const labels: fc.Arbitrary<Labels> = fc
  .array(fc.tuple(keys, values), { maxLength: 5 })
  .map((entries) => Object.fromEntries(entries));

/** The conditions of docs/killswitch.md, written in the plainest way. */
function meets(selector: readonly Requirement[], entries: readonly (readonly [string, string])[]): boolean {
  for (const condition of selector) {
    const found = entries.filter(([key]) => key === condition.key).map(([, value]) => value);
    const isThere = found.length > 0;
    if (condition.op === 'exists' && !isThere) return false;
    if (condition.op === 'absent' && isThere) return false;
    if (condition.op === 'in' && !(isThere && condition.values.some((value) => value === found[0])))
      return false;
    if (condition.op === 'notin' && isThere && condition.values.some((value) => value === found[0]))
      return false;
  }
  return true;
}

it('any selector’s text is read as that selector, with any spacing, and is written the same again', async () => {
  await expectProperty(
    fc.property(
      requirements(anyKeys, anyValues),
      fc.constantFrom('', ' ', '\t ', '\n'),
      (selector, space) => {
        const text = formatSelector(selector);
        expect(parseSelector(text)).toEqual({ selector });
        expect(formatSelector(conditionsOf(text))).toBe(text);
        const spaced = selector.map((one) => space + formatSelector([one]) + space).join(`${space},${space}`);
        expect(parseSelector(spaced)).toEqual({ selector });
      },
    ),
    1_500,
  );
});

it('any text is a selector or has problems, and a selector that was read is written with the same meaning', async () => {
  const token = fc.constantFrom(
    ...'team = == != in notin ( ) , ! "x" "a,b" "\\" \\ x y gpu'.split(' '),
    ' ',
    '"',
    '\u0000',
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(token, { maxLength: 14 }).map((parts) => parts.join('')),
  );
  await expectProperty(
    fc.property(text, labels, (given, own) => {
      const { selector, problems } = parseSelector(given);
      if (selector === undefined) {
        expect(problems.length).toBeGreaterThan(0);
        return;
      }
      expect(selector.length).toBeGreaterThan(0);
      const again = conditionsOf(formatSelector(selector));
      expect(selectorMatches(again, own)).toBe(selectorMatches(selector, own));
    }),
    3_000,
  );
});

it('long texts are answered in bounded time', () => {
  for (const unit of [
    '(',
    ')',
    '"',
    '\\',
    '!',
    ' ',
    'a',
    'a in (',
    'a in (b,',
    '"\\',
    'a=b,',
    'a ',
    ', ,',
    'a in ( b , ',
  ])
    for (const end of ['', 'x', '"', ')', ')x'])
      expect(() => parseSelector(unit.repeat(60_000) + end)).not.toThrow();
}, 30_000);

it('is met where the plain reading of its conditions is met', async () => {
  await expectProperty(
    fc.property(requirements(keys, values), labels, (selector, own) => {
      expect(selectorMatches(selector, own)).toBe(meets(selector, Object.entries(own)));
    }),
    3_000,
  );
});

describe('in the scripts', () => {
  let valkey: Valkey;
  let life: LifecycleService;
  useLife((rig) => ({ valkey, life } = rig));

  it('R53 the claim covers by any selectors the same as the plain reading, each of several latches alone', async () => {
    let version = 0;
    const texts = fc.array(requirements(keys, values), { minLength: 1, maxLength: 3 });
    await expectProperty(
      fc.asyncProperty(texts, labels, labels, async (selectors, outer, inner) => {
        await valkey.redis.flushall();
        const made = spec([node('a', { labels: inner })], { labels: outer });
        const { id } = await life.executions.create(made, { start: true, canonical: 'x' });
        const [job] = (await life.executions.advance(id)).entries;
        const items = selectors.map((selector, i) => {
          const scope = { type: 'selector', selector: formatSelector(selector) } as const;
          return {
            id: `lat_${i}`,
            kind: 'latch',
            scope,
            requires: conditionsOf(scope.selector),
            by: 'me',
            engagedAt: 1,
          };
        });
        const tag = valkey.keys.tagOf(id);
        version++;
        const args = [tag, version, JSON.stringify(items), 500];
        await valkey.scripts.json('copyLatches', valkey.keys.shard(tag, 'latches'), args);
        const granted = await life.agents.claim(job!, 'wrk_1', 'token');
        const all = Object.entries({ ...outer, ...inner });
        expect({ granted: granted.claimed, labels: granted.claimed ? granted.labels : undefined }).toEqual(
          selectors.some((selector) => meets(selector, all))
            ? { granted: false, labels: undefined }
            : { granted: true, labels: Object.fromEntries(all) },
        );
      }),
      250,
    );
  }, 120_000);
});
