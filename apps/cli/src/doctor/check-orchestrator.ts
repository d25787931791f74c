import type { BelayClient } from '#libs/client';
import { isBelayError, type WorkerRecord } from '#libs/contracts';
import { describeLease } from '../commands/workers';
import type { Connection } from '../session/find-connection';
import { fail, ok, warn, type Check } from './check';

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
    const { items } = await client.workers();
    return {
      checks: [ok('token', `accepted (from ${connection.tokenFrom})`), ...checkWorkers(items, Date.now())],
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
