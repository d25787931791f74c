import { OutcomeUnknownError } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { useLife } from '../../../test/support/life';
import { readResults, type StoredResult } from './read-results';

let valkey: Valkey;
useLife((rig) => ({ valkey } = rig));

const EXECUTION = 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ';

async function store(results: Record<string, string>): Promise<void> {
  const key = valkey.keys.execution(EXECUTION, 'results');
  await valkey.redis.del(key);
  await valkey.redis.hset(key, results);
}

async function read(ids: readonly string[]): Promise<(readonly StoredResult[])[]> {
  const pieces: (readonly StoredResult[])[] = [];
  for await (const piece of readResults(valkey, EXECUTION, ids)) pieces.push(piece);
  return pieces;
}

it('reads results in the order asked for, those that have none left out, at most a quarter of a mebibyte in one piece', async () => {
  const large = JSON.stringify('x'.repeat(150_000));
  await store({ a: large, b: large, c: '1', d: large });
  const names = (await read(['d', 'none', 'c', 'b', 'a'])).map((piece) => piece.map(([id]) => id));
  expect(names).toEqual([['d', 'c'], ['b'], ['a']]);
});

it('leaves out a result that went between the look at its size and its read', async () => {
  await store({ a: '1', b: '2' });
  const sizes = valkey.redis.hstrlen.bind(valkey.redis);
  const look = jest.spyOn(valkey.redis, 'hstrlen').mockImplementation(async (key, id) => {
    const size = await sizes(key, id);
    await valkey.redis.hdel(key, 'a');
    return size;
  });
  expect((await read(['a', 'b'])).flat().filter(([id]) => id === 'a')).toEqual([]);
  look.mockRestore();
});

it('R31 names the node whose result cannot be read, or the key when none can', async () => {
  await store({ a: '1', b: '{' });
  await expect(read(['a', 'b'])).rejects.toMatchObject({
    code: 'CORRUPT_RECORD',
    details: { field: 'b' },
  });
  const key = valkey.keys.execution(EXECUTION, 'results');
  await valkey.redis.multi().del(key).set(key, 'text').exec();
  await expect(read(['a'])).rejects.toMatchObject({ code: 'CORRUPT_RECORD', details: { key } });
  await valkey.redis.del(key);
});

it('says that the outcome is unknown when the server stays away', async () => {
  const away = new Error('Connection is closed.');
  const hstrlen = jest.spyOn(valkey.redis, 'hstrlen').mockRejectedValue(away);
  // The time limit began a minute ago.
  const clock = jest.spyOn(performance, 'now').mockReturnValueOnce(performance.now() - 60_000);
  const failure: unknown = await read(['a']).catch((error: unknown) => error);
  clock.mockRestore();
  hstrlen.mockRestore();
  expect(failure).toBeInstanceOf(OutcomeUnknownError);
  expect(failure).toMatchObject({ cause: away });
});
