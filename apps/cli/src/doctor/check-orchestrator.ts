import type { BelayClient } from '#libs/client';
import { isBelayError, type Latch, type WorkerRecord } from '#libs/contracts';
import { describeLease } from '../commands/workers';
import type { Connection } from '../session/find-connection';
import { count } from '../text/format';
import { poolsOf } from '../text/pools';
import { fail, ok, warn, type Check } from './check';
import { checkKillswitch } from './check-killswitch';

/** The orchestrator, the token for it, and the workers it knows. */
export async function checkOrchestrator(
  connection: Connection,
  makeClient: () => BelayClient,
): Promise<{ checks: Check[]; workers: readonly WorkerRecord[] }> {
  const where = `${connection.url} (from ${connection.urlFrom})`;
  let client: BelayClient;
  try {
    client = makeClient();
    const { ok: isUp, state } = await client.health();
    if (!isUp)
      return { checks: [fail('orchestrator', `${state} at ${where}`, 'look at its log')], workers: [] };
    const token = await checkToken(client, connection);
    const orchestrator = ok('orchestrator', `${state} at ${where}`);
    return { checks: [orchestrator, ...token.checks], workers: token.workers };
  } catch (error) {
    const message = isBelayError(error) ? error.message : String(error);
    return { checks: [fail('orchestrator', message, 'belay up, or name another with --url')], workers: [] };
  }
}

async function checkToken(
  client: BelayClient,
  connection: Connection,
): Promise<{ checks: Check[]; workers: readonly WorkerRecord[] }> {
  try {
    const [{ items }, { items: latches }, ofKillswitch] = await Promise.all([
      client.workers(),
      client.latches(),
      checkKillswitch(client, Date.now()),
    ]);
    return {
      checks: [
        ok('token', `accepted (from ${connection.tokenFrom})`),
        ...checkWorkers(items, Date.now()),
        ...checkPools(items),
        checkLatches(latches),
        ...ofKillswitch,
      ],
      workers: items.filter(({ state }) => state !== 'stopped'),
    };
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'UNAUTHORIZED') throw error;
    const message = `refused (from ${connection.tokenFrom})`;
    return {
      checks: [fail('token', message, 'use the data dir of its belay up, or BELAY_TOKEN')],
      workers: [],
    };
  }
}

/** One line for each live worker; a lease that ran out is a worker nobody hears. */
export function checkWorkers(workers: readonly WorkerRecord[], now: number): Check[] {
  const live = workers.filter(({ state }) => state !== 'stopped');
  if (live.length === 0)
    return [warn('workers', 'none: nothing will run', 'belay worker, or belay up --workers 2')];
  return live.map((worker) => {
    const text = `${worker.id} on ${worker.host} ${worker.state}, ${worker.running}/${worker.concurrency} busy, lease ${describeLease(worker, now)}`;
    const isLost = worker.leaseExpiresAt !== undefined && worker.leaseExpiresAt <= now;
    if (isLost)
      return fail('worker', text, 'it is away or cut off; its agents are retried elsewhere after the lease');
    return worker.state === 'running' ? ok('worker', text) : warn('worker', text);
  });
}

/** Which pools are served now: a node of any other pool waits. */
export function checkPools(workers: readonly WorkerRecord[]): Check[] {
  const pools = [...poolsOf(workers)].map(([pool, n]) => `${pool} (${count(n, 'worker')})`);
  return pools.length === 0 ? [] : [ok('pools', `served: ${pools.join(', ')}`)];
}

/** A latch is no fault, but whoever wonders why nothing starts has to be told of it. */
export function checkLatches(latches: readonly Latch[]): Check {
  if (latches.length === 0) return ok('latches', 'none engaged');
  const freezes = latches.filter(({ kind }) => kind === 'freeze').length;
  const parts = [
    ...(latches.length > freezes ? [count(latches.length - freezes, 'latch', 'latches')] : []),
    ...(freezes > 0 ? [count(freezes, 'freeze')] : []),
  ];
  return warn('latches', `engaged: ${parts.join(', ')}`, 'belay latches shows what they hold');
}
