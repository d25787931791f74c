import { createHash } from 'node:crypto';
import { MAX_TOKENS, type Signature } from '#libs/contracts';
import { AuditStore, ControlSettings } from '#libs/killswitch';
import { Valkey } from '#libs/valkey';
import { useLife } from '../../../test/support/life';
import { until } from '../../../test/support/wait';
import { TokenStore } from './token-store';

const SAID: Signature = { by: 'admin', role: 'admin', requestId: 'req_1' };

let url: string;
let valkey: Valkey;
let store: TokenStore;
useLife((rig) => ({ url, valkey } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  store = storeOf(valkey);
});

const storeOf = (of: Valkey, retentionMs = 60_000): TokenStore =>
  new TokenStore(of, new ControlSettings(of, retentionMs));

/** Every key with its content, as text. */
async function everythingStored(): Promise<string> {
  const { redis } = valkey;
  const found: string[] = [];
  for (const key of await redis.keys('*')) {
    const type = await redis.type(key);
    const value =
      type === 'hash'
        ? await redis.hgetall(key)
        : type === 'stream'
          ? await redis.xrange(key, '-', '+')
          : type === 'string'
            ? await redis.get(key)
            : await redis.dump(key);
    found.push(`${key} ${JSON.stringify(value)}`);
  }
  return found.join('\n');
}

describe('R65 named tokens', () => {
  it('open a session under their name, with their rights, from the next request on', async () => {
    const bound = await store.create({ name: 'a', role: 'stopper', selector: 'tenant=a' }, SAID);
    const free = await store.create({ name: 'b', role: 'viewer' }, SAID);
    expect(await store.holderOf(bound.secret)).toEqual({
      name: 'a',
      role: 'stopper',
      selector: [{ key: 'tenant', op: 'in', values: ['a'] }],
    });
    expect(await store.holderOf(free.secret)).toEqual({ name: 'b', role: 'viewer' });
    expect(bound.token).toMatchObject({ name: 'a', createdBy: 'admin', createdAt: expect.any(Number) });
  });

  it('R65 have a rate of their own, if they were made with one', async () => {
    const rate = { perSecond: 5, burst: 20 };
    const { secret, token } = await store.create({ name: 'a', role: 'viewer', rate }, SAID);
    expect(token.rate).toEqual(rate);
    expect(await store.holderOf(secret)).toEqual({ name: 'a', role: 'viewer', rate });
    expect(await store.list()).toMatchObject([{ name: 'a', rate }]);
  });

  it('R82 their secrets are in no key, no audit entry and no command: only the hash is stored', async () => {
    const monitor = await valkey.connections.create('subscriber').monitor();
    const commands: string[] = [];
    monitor.on('monitor', (_time: string, args: string[]) => commands.push(JSON.stringify(args)));
    const { secret } = await store.create({ name: 'a', role: 'viewer' }, SAID);
    await store.holderOf(secret);
    await store.revoke('a', SAID);
    await until(() => commands.join('\n').includes('token.revoked'), 'the revocation in MONITOR');
    monitor.disconnect();
    const stored = await everythingStored();
    const hash = createHash('sha256').update(secret).digest('hex');
    expect(stored).toContain(hash);
    expect(commands.join('\n')).toContain(hash);
    for (const text of [stored, commands.join('\n')]) {
      expect(text).not.toContain(secret);
      expect(text).not.toContain(secret.slice('belay_'.length));
    }
  });

  it('R81 are in the audit log with the persons who made and revoked them, and its chain is whole', async () => {
    await store.create({ name: 'a', role: 'stopper', selector: 'tenant=a', expiresInMs: 60_000 }, SAID);
    await store.revoke('a', { by: 'ann', role: 'admin', requestId: 'req_2' });
    await store.revoke('a', SAID);
    const audit = new AuditStore(valkey, new ControlSettings(valkey, 60_000));
    const { items } = await audit.list();
    expect(items).toMatchObject([
      { act: 'token.revoked', by: 'ann', requestId: 'req_2', token: { name: 'a', role: 'stopper' } },
      {
        act: 'token.created',
        by: 'admin',
        role: 'admin',
        requestId: 'req_1',
        token: { name: 'a', role: 'stopper', selector: 'tenant=a', expiresAt: expect.any(Number) },
      },
    ]);
    expect((await audit.verify()).intact).toBe(true);
  });

  it('one that is revoked opens nothing at any orchestrator, and says so', async () => {
    const { secret } = await store.create({ name: 'a', role: 'viewer' }, SAID);
    const other = await new Valkey({ url, keyPrefix: 'belay', shards: 2 }).open();
    const elsewhere = storeOf(other);
    expect(await elsewhere.holderOf(secret)).toMatchObject({ name: 'a' });
    expect(await store.revoke('a', SAID)).toMatchObject({ already: false, token: { revokedBy: 'admin' } });
    await expect(elsewhere.holderOf(secret)).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      message: expect.stringContaining('The token a was revoked.') as string,
    });
    expect(await elsewhere.revoke('a', SAID)).toMatchObject({ already: true });
    other.close();
    await expect(store.revoke('none', SAID)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('one that has expired opens nothing, by the server’s clock', async () => {
    const { secret } = await store.create({ name: 'a', role: 'viewer', expiresInMs: 60_000 }, SAID);
    expect(await store.holderOf(secret)).toMatchObject({ name: 'a' });
    await rewrite(secret, { expiresAt: 1 });
    await expect(store.holderOf(secret)).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      message: expect.stringContaining('has expired') as string,
    });
    expect(await store.create({ name: 'a', role: 'viewer' }, SAID)).toMatchObject({ token: { name: 'a' } });
    expect(await store.list()).toHaveLength(1);
  });

  it('that are not secrets, unknown, or cannot be read open nothing', async () => {
    const { secret } = await store.create({ name: 'a', role: 'viewer' }, SAID);
    const unknown = `belay_${'x'.repeat(43)}`;
    for (const wrong of ['', 'a', 'x'.repeat(49), unknown, `${secret}x`])
      await expect(store.holderOf(wrong)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    const key = valkey.keys.shard(valkey.keys.control, 'tokens');
    await valkey.redis.hset(key, createHash('sha256').update(unknown).digest('hex'), '{"role":');
    await expect(store.holderOf(unknown)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    expect(await store.holderOf(secret)).toMatchObject({ name: 'a' });
  });

  it('a name belongs to one valid token at a time, and is free once that is revoked', async () => {
    const first = await store.create({ name: 'a', role: 'viewer' }, SAID);
    await expect(store.create({ name: 'a', role: 'admin' }, SAID)).rejects.toMatchObject({
      code: 'TOKEN_EXISTS',
    });
    await store.revoke('a', SAID);
    const second = await store.create({ name: 'a', role: 'operator' }, SAID);
    expect(await store.holderOf(second.secret)).toMatchObject({ role: 'operator' });
    await expect(store.holderOf(first.secret)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  it('the last use is known to the minute: one entry, however often it is used', async () => {
    const { secret } = await store.create({ name: 'a', role: 'viewer' }, SAID);
    expect((await store.list())[0]).not.toHaveProperty('lastUsedAt');
    await store.holderOf(secret);
    const [{ lastUsedAt = 0 } = {}] = await store.list();
    expect(lastUsedAt).toBeGreaterThan(0);
    await store.holderOf(secret);
    expect(await store.list()).toMatchObject([{ lastUsedAt }]);
    await valkey.redis.hset(usedKey(), 'a', '1');
    await store.holderOf(secret);
    expect((await store.list())[0]?.lastUsedAt).toBeGreaterThanOrEqual(lastUsedAt);
    // A list of another type refuses nobody.
    await valkey.redis.set(usedKey(), 'x');
    expect(await store.holderOf(secret)).toMatchObject({ name: 'a' });
  });

  it('there are at most 1,000; those that were over for the retention make room', async () => {
    const key = valkey.keys.shard(valkey.keys.control, 'tokens');
    const fill = Object.fromEntries(
      Array.from({ length: MAX_TOKENS }, (_, i) => [
        `${i}`,
        JSON.stringify({ name: `n${i}`, role: 'viewer', createdAt: 1, createdBy: 'x' }),
      ]),
    );
    await valkey.redis.hset(key, fill);
    await expect(store.create({ name: 'a', role: 'viewer' }, SAID)).rejects.toMatchObject({
      code: 'TOO_MANY_TOKENS',
    });
    await valkey.redis.hset(key, '7', JSON.stringify({ name: 'n7', role: 'viewer', revokedAt: 1 }));
    expect(await store.create({ name: 'a', role: 'viewer' }, SAID)).toMatchObject({ token: { name: 'a' } });
    expect(await valkey.redis.hexists(key, '7')).toBe(0);
  });

  it('a revocation that a failover lost is stored again, and reaches no younger token of the name', async () => {
    const first = await store.create({ name: 'a', role: 'viewer' }, SAID);
    const key = valkey.keys.shard(valkey.keys.control, 'tokens');
    const before = await valkey.redis.hgetall(key);
    await store.revoke('a', SAID);
    await valkey.redis.hset(key, before);
    expect(await store.holderOf(first.secret)).toMatchObject({ name: 'a' });
    await store.recall();
    await expect(store.holderOf(first.secret)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    const second = await store.create({ name: 'a', role: 'viewer' }, SAID);
    await store.recall();
    expect(await store.holderOf(second.secret)).toMatchObject({ name: 'a' });
  });
});

const usedKey = (): string => valkey.keys.shard(valkey.keys.control, 'tokens:used');

/** Changes the stored record of a token, as no user could. */
async function rewrite(secret: string, change: object): Promise<void> {
  const key = valkey.keys.shard(valkey.keys.control, 'tokens');
  const hash = createHash('sha256').update(secret).digest('hex');
  const held = JSON.parse((await valkey.redis.hget(key, hash)) ?? '{}') as object;
  await valkey.redis.hset(key, hash, JSON.stringify({ ...held, ...change }));
}
