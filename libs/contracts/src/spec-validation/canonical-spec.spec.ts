import fc from 'fast-check';
import { canonicalJson, canonicalSpec, canonicalSpecInTurns } from './canonical-spec';
import { validateSpec } from './validate-spec';

/** The same value with the keys of every object in another order. */
function reordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reordered);
  if (typeof value !== 'object' || value === null) return value;
  const copy: Record<string, unknown> = Object.create(null);
  for (const [key, field] of Object.entries(value).toReversed()) copy[key] = reordered(field);
  return copy;
}

describe('the canonical form', () => {
  it('does not depend on the order of keys, and contains the whole value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(canonicalJson(reordered(value))).toBe(canonicalJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it('is one for a spec and the same spec with its defaults written out', () => {
    const run = { command: ['true'] };
    const short = validateSpec({ name: 'x', nodes: [{ id: 'a', run }] });
    const long = validateSpec({
      nodes: [{ run, priority: 5, id: 'a', dependsOn: [] }],
      onFailure: 'stop',
      name: 'x',
    });
    expect(canonicalSpec(long)).toBe(canonicalSpec(short));
  });

  it('differs where a value or the order of a list differs', () => {
    expect(canonicalJson([1, 2])).not.toBe(canonicalJson([2, 1]));
    expect(canonicalJson({ a: '1' })).not.toBe(canonicalJson({ a: 1 }));
  });

  it('leaves absent fields out and writes values that JSON has no word for as null', () => {
    expect(canonicalJson({ b: undefined, a: [undefined, null] })).toBe('{"a":[null,null]}');
  });

  it('is the same text when it is written a few hundred nodes at a time', async () => {
    const spec = validateSpec({
      name: 'x',
      labels: { b: '1', a: '2' },
      nodes: Array.from({ length: 1_200 }, (_, i) => ({ id: `n${i}`, run: { command: ['true'] } })),
    });
    let turns = 0;
    expect(await canonicalSpecInTurns(spec, async () => void turns++)).toBe(canonicalSpec(spec));
    expect(turns).toBe(2);
  });
});
