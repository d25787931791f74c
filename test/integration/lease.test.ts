import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ulid } from 'ulid';
import { createWorker, type Worker } from '../../apps/worker/src/create-worker';
import { readSettings } from '#libs/contracts';
import { KillResponder, LatchStore, OrderStore } from '#libs/killswitch';
import { AgentStore } from '#libs/lifecycle';
import { SILENT } from '#libs/service';
import { Valkey } from '#libs/valkey';
import { BreakGlassLedger } from '#libs/worker';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { eventually } from '../support/fleet';

const workerId = `wrk_${ulid()}`;
const LEASE = { BELAY_LEASE_TTL_MS: '30000', BELAY_HEARTBEAT_MS: '100', BELAY_SHARDS: '2' };
/** Renewals that must follow while another task is blocked. */
const RENEWALS = 5;

let server: ThrowawayServer;
let valkey: Valkey;
let dir: string;
let worker: Worker;
let fences = 0;

beforeAll(async () => {
  server = await startThrowawayServer();
  dir = mkdtempSync(join(tmpdir(), 'belay-lease-'));
  const settings = readSettings({ ...LEASE, BELAY_VALKEY_URL: server.url, BELAY_DATA_DIR: dir });
  worker = await createWorker({
    workerId,
    settings: { ...settings, valkeyUrl: server.url },
    log: SILENT,
    ownsProcess: false,
    http: false,
  });
  worker.fence.lost$.subscribe(() => fences++);
  worker.fence.fenced$.subscribe(() => fences++);
  await worker.start();
  valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 2 }).open();
});
afterAll(async () => {
  jest.restoreAllMocks();
  await worker.stop(0);
  valkey.close();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

const leaseEnd = async (): Promise<string | null> =>
  valkey.redis.zscore(valkey.keys.shard(valkey.keys.control, 'leases'), workerId);

/** Resolves when the lease was renewed that often. */
async function renewed(times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    const before = await leaseEnd();
    await eventually(async () => (await leaseEnd()) !== before, `renewal ${i + 1} of the lease`, 5_000);
  }
}

const newHead = async (): Promise<unknown> =>
  valkey.redis.xadd(valkey.keys.shard(valkey.keys.control, 'orders'), '*', 'id', `ord_${ulid()}`);
const newLatchVersion = async (): Promise<unknown> =>
  valkey.redis.incr(valkey.keys.shard(valkey.keys.control, 'latches:version'));
const nothing = async (): Promise<void> => undefined;

/** Each task of a worker after or beside a heartbeat: how it begins, and the call that is blocked. */
const WORK: readonly [
  name: string,
  type: { prototype: object },
  method: string,
  begin: () => Promise<unknown>,
][] = [
  ['reading the log of orders', OrderStore, 'since', newHead],
  ['catching up with orders', KillResponder, 'noticeHead', nothing],
  ['telling what break-glass did', BreakGlassLedger, 'tell', nothing],
  ['following the latches', LatchStore, 'follow', newLatchVersion],
  ['looking after its own agents', AgentStore, 'ownedBy', nothing],
];

it('a worker subscribes to the doorbell and to no events', async () => {
  const { eventsChannel, doorbellChannel } = valkey.keys;
  expect(await valkey.redis.call('PUBSUB', 'NUMSUB', eventsChannel, doorbellChannel)).toEqual([
    eventsChannel,
    0,
    doorbellChannel,
    1,
  ]);
});

describe('R27 the lease is kept while a task beside the heartbeat is blocked for good', () => {
  it.each(WORK)('%s', async (_name, { prototype }, method, begin) => {
    let entered = 0;
    const blocked = jest.spyOn(prototype as Record<string, () => unknown>, method).mockImplementation(() => {
      entered++;
      return new Promise(() => undefined);
    });
    try {
      await begin();
      await eventually(async () => entered > 0, `the blocked call of ${method}`, 15_000);
      await renewed(RENEWALS);
      expect(fences).toBe(0);
      expect(worker.state).toBe('running');
    } finally {
      blocked.mockRestore();
    }
  });
});
