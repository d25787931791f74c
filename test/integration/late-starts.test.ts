import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, startFleet, type Fleet } from '../support/fleet';

const NODES = 80;
const ENV = {
  BELAY_LEASE_TTL_MS: '4000',
  BELAY_HEARTBEAT_MS: '300',
  BELAY_GRACE_MS: '300',
  BELAY_WORKER_CONCURRENCY: String(NODES),
};
/** Records its start, by the clock of /proc/uptime. */
const AGENT = 'read -r up _ </proc/uptime; echo "$up" >>"$RECORD"; exec sleep 600';

let fleet: Fleet;
afterEach(async () => fleet.stop());

const uptime = (): number => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);

it('R27 starts that wait for their turn in a worker stopped past its lease do not happen when it wakes', async () => {
  fleet = await startFleet({ workers: 1, env: ENV });
  const record = join(fleet.dir, 'starts');
  writeFileSync(record, '');
  const starts = (): number[] => readFileSync(record, 'utf8').split('\n').filter(Boolean).map(Number);
  const { execution } = await fleet.client.createExecution({
    name: 'queue',
    onFailure: 'continue',
    nodes: Array.from({ length: NODES }, (_, i) => ({
      id: `n${i}`,
      run: { command: [AGENT], shell: true, env: { RECORD: record } },
      maxAttempts: 1,
    })),
  });
  const [worker] = fleet.workers;
  const { redis, keys } = fleet.life.valkey;
  const claimed = async (): Promise<number> => {
    const counts = keys.tags().map(async (tag) => redis.scard(keys.shard(tag, `own:${worker?.id}`)));
    return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
  };
  await eventually(async () => (await claimed()) >= NODES / 2, 'half of them claimed', 60_000);
  worker?.process.kill('SIGSTOP');
  const claims = await claimed();
  await eventually(
    async () => (await fleet.life.workers.get(worker?.id ?? '')).state === 'stopped',
    'the end of its lease',
    60_000,
  );
  const before = starts().length;
  // Some had their claim and waited.
  expect(claims).toBeGreaterThan(before);
  const wokenAt = uptime();
  worker?.process.kill('SIGCONT');
  await worker?.exited;
  expect(starts().filter((at) => at >= wokenAt)).toEqual([]);
  expect(starts()).toHaveLength(before);
  await fleet.client.stop(execution.id);
});
