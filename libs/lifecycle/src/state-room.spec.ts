import { validateSpec } from '#libs/contracts';
import { Valkey } from '#libs/valkey';
import { useServer } from '../../../test/support/server';
import { LifecycleService } from './lifecycle.service';

const MB = 1024 * 1024;
const spec = validateSpec({
  name: 'one',
  idempotencyKey: 'one',
  nodes: [{ id: 'a', run: { command: ['true'] } }],
});

describe('room for another execution', () => {
  const server = useServer();
  let valkey: Valkey;
  let used = 0;

  beforeEach(async () => {
    valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
    // After this, nothing is freed in the background and no command's buffer counts when the memory is measured.
    await valkey.redis.flushall('SYNC');
    await valkey.redis.setrange('ballast', 20 * MB - 1, 'x');
    used = (await valkey.memory.atNow('any'))?.usedBytes ?? 0;
  });
  afterEach(async () => {
    await valkey.redis.config('SET', 'maxmemory', '0');
    valkey.close();
  });

  const life = (maxStateBytes?: number): LifecycleService =>
    new LifecycleService(valkey, {
      retentionMs: 60_000,
      ...(maxStateBytes === undefined ? {} : { maxStateBytes }),
    });
  const create = async (of: LifecycleService) =>
    of.executions.create(spec, { start: true, canonical: JSON.stringify(spec) });
  const keys = async (): Promise<string[]> => (await valkey.redis.keys('*:exe:*')).sort();

  it('R25 is refused above the high-water mark of a server that is not full yet, and nothing is stored', async () => {
    await valkey.redis.config('SET', 'maxmemory', String(Math.round(used / 0.95)));
    await expect(create(life())).rejects.toMatchObject({ code: 'SERVER_FULL' });
    expect(await keys()).toEqual([]);
    // Other writes still pass: the running executions have the rest of the memory.
    await valkey.redis.set('words', '1');
  });

  it('is refused above BELAY_MAX_STATE_MB on a server without a bound of its own, and taken below', async () => {
    await expect(create(life(used / 2))).rejects.toMatchObject({ code: 'SERVER_FULL' });
    expect(await create(life(used + 100 * MB))).toMatchObject({ created: true });
  });

  it('R30 a submit that was accepted before is answered however full the server is', async () => {
    const { id } = await create(life());
    await expect(create(life(1))).resolves.toEqual({ id, created: false });
  });

  it('is not used where the login may not read the memory', async () => {
    const asked = jest.spyOn(valkey.memory, 'at').mockResolvedValue(undefined);
    expect(await create(life(1))).toMatchObject({ created: true });
    asked.mockRestore();
  });

  it('is told as that when the server turns out to be full in the middle', async () => {
    await valkey.redis.config('SET', 'maxmemory', '1');
    const asked = jest.spyOn(valkey.memory, 'at').mockResolvedValue(undefined);
    await expect(create(life())).rejects.toMatchObject({ code: 'SERVER_FULL' });
    asked.mockRestore();
    expect(await keys()).toEqual([]);
  });
});
