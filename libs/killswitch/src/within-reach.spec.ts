import { withinReach } from './within-reach';

describe('R50 R51 the reach of an order', () => {
  const reach = { a: 5, b: 0 };

  it.each([
    ['yes', 'a', 5],
    ['no', 'a', 6],
    ['no', 'b', 1],
    ['yes', 'b', undefined],
    ['unknown', 'c', 1],
    ['unknown', 'c', undefined],
  ] as const)('is %s in shard %s for the number %s', (answer, tag, born) => {
    expect(withinReach(reach, tag, born)).toBe(answer);
  });
});
