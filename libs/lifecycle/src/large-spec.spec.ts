import { createHash } from 'node:crypto';
import { node, spec } from '../../../test/support/life';
import { hashText } from './hash-text';
import { nodeKindsOf } from './node-kinds';

/** How often other work had its turn during `work`. */
async function turnsOf(work: () => Promise<unknown>): Promise<number> {
  const turns = jest.spyOn(global, 'setImmediate');
  await work();
  const count = turns.mock.calls.length;
  turns.mockRestore();
  return count;
}

describe('a submit of a large spec', () => {
  it('hashes its text a piece at a time, with the same result, wherever a piece ends', async () => {
    for (const text of ['', 'x', `${'x'.repeat(999_999)}😀${'y'.repeat(2_500_000)}`]) {
      const whole = createHash('sha256').update(text).digest('hex');
      expect(await hashText(text)).toBe(whole);
    }
    expect(await turnsOf(async () => hashText('x'.repeat(3_500_000)))).toBe(3);
  });

  it('looks at the labels of its nodes a few thousand at a time', async () => {
    const nodes = Array.from({ length: 10_000 }, (_, i) =>
      node(`n${i}`, { pool: i % 2 === 0 ? 'gpu' : 'default', labels: i % 3 === 0 ? { model: 'large' } : {} }),
    );
    const large = spec(nodes, { labels: { team: 'data' } });
    expect(await turnsOf(async () => nodeKindsOf(large))).toBe(5);
    const { kinds, labels } = await nodeKindsOf(large);
    const both = { team: 'data', model: 'large' };
    expect(labels).toEqual([both]);
    expect(kinds).toHaveLength(4);
    expect(kinds).toContainEqual({ pool: 'gpu', labels: both });
    expect(kinds).toContainEqual({ pool: 'default', labels: { team: 'data' } });
  });

  it('keeps no kinds of nodes where there are too many to compare', async () => {
    const many = spec(Array.from({ length: 65 }, (_, i) => node(`n${i}`, { labels: { n: String(i) } })));
    expect(await nodeKindsOf(many)).toEqual({ kinds: [], labels: [] });
  });
});
