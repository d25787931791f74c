import fc from 'fast-check';
import { decodeCursor, encodeCursor, readCursor } from './fleet-cursor';

const id = fc.tuple(fc.nat(2 ** 41), fc.nat(100_000)).map(([ms, n]) => `${ms}-${n}`);
const positions = fc.array(fc.oneof(id, fc.constant('0-0')), { minLength: 1, maxLength: 256 });

describe('the cursor of the events of all executions', () => {
  it('brings back the position of every shard', () => {
    fc.assert(
      fc.property(positions, (all) => {
        expect(decodeCursor(encodeCursor(all), all.length)).toEqual(all);
      }),
    );
  });

  it('is short: four busy shards and none else take some 30 characters', () => {
    const busy = ['1700000000000-0', '1700000000900-3', '1699999999000-1', '1700000000001-0'];
    expect(encodeCursor(busy).length).toBeLessThan(40);
    expect(encodeCursor(Array.from({ length: 256 }, () => busy[1] ?? '')).length).toBeLessThan(800);
  });

  it('is of no use to a fleet with another number of shards', () => {
    const text = encodeCursor(['5-1', '6-2']);
    expect(decodeCursor(text, 2)).toEqual(['5-1', '6-2']);
    expect(decodeCursor(text, 3)).toBeUndefined();
    expect(decodeCursor(text, 1)).toBeUndefined();
  });

  it('is taken only as it was sent', () => {
    const text = encodeCursor(['1700000000000-0', '1700000000900-3']);
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.base64String().map((body) => `all.${body}`),
        ),
        (other) => {
          const read = decodeCursor(other, 2);
          if (read !== undefined) expect(encodeCursor(read)).toBe(other);
        },
      ),
    );
    for (const wrong of ['', 'all.', '1700000000000-0', text.slice(0, -1), `${text}A`, `x${text}`])
      expect(decodeCursor(wrong, 2)).toBeUndefined();
    // A distance beyond the latest time; a number that does not end.
    expect(decodeCursor(`all.${Buffer.from([1, 5, 6, 0]).toString('base64url')}`, 1)).toBeUndefined();
    expect(decodeCursor(`all.${Buffer.from([1, 5, 0, 0x80]).toString('base64url')}`, 1)).toBeUndefined();
    expect(
      decodeCursor(
        `all.${Buffer.from([1, ...Array<number>(9).fill(0xff), 1, 0, 0]).toString('base64url')}`,
        1,
      ),
    ).toBeUndefined();
  });

  it('R59 a header that is none is refused with what to do', () => {
    expect(readCursor({ headers: {} }, 2)).toBeUndefined();
    expect(readCursor({ headers: { 'last-event-id': encodeCursor(['5-1']) } }, 1)).toEqual(['5-1']);
    expect(() => readCursor({ headers: { 'last-event-id': '1-0' } }, 2)).toThrow(
      expect.objectContaining({
        code: 'INVALID_REQUEST',
        problems: [expect.objectContaining({ path: 'Last-Event-ID', code: 'PATTERN' })],
      }),
    );
  });
});
