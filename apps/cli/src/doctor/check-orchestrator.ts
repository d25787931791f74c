import type { BelayClient } from '#libs/client';
import { isBelayError, type BelayError, type Latch, type WorkerRecord } from '#libs/contracts';
import { describeLease } from '../commands/workers';
import type { Connection } from '../session/find-connection';
import { count, formatDuration } from '../text/format';
import { poolsOf } from '../text/pools';
import { fail, ok, warn, type Check } from './check';
import { checkKillswitch } from './check-killswitch';
import { checkOrders } from './check-orders';
import { checkQuarantine } from './check-quarantine';

const LOST_SHOWN = 5;

/** The orchestrator's answers; the workers are undefined where it could not list them. */
interface Told {
  readonly checks: Check[];
  readonly workers: readonly WorkerRecord[] | undefined;
}

/** Checks the orchestrator, the token for it, and the workers that it knows. */
export async function checkOrchestrator(
  connection: Connection,
  makeClient: () => BelayClient,
): Promise<Told> {
  const where = `${connection.url} (from ${connection.urlFrom})`;
  const nothing = (check: Check): Told => ({ checks: [check], workers: undefined });
  try {
    const client = makeClient();
    const { ok: isUp, state } = await client.health();
    if (!isUp) return nothing(fail('orchestrator', `${state} at ${where}`, 'look at its log'));
    const told = await checkToken(client, connection);
    return { ...told, checks: [ok('orchestrator', `${state} at ${where}`), ...told.checks] };
  } catch (error) {
    const message = isBelayError(error) ? error.message : String(error);
    return nothing(fail('orchestrator', message, 'belay up, or name another with --url'));
  }
}

async function checkToken(client: BelayClient, connection: Connection): Promise<Told> {
  try {
    const [{ items }, ofLost, { items: latches }, ofOrders, ofKillswitch, ofRecords] = await Promise.all([
      client.workers(),
      checkLost(client, Date.now()),
      client.latches(),
      checkOrders(client, Date.now()),
      checkKillswitch(client, Date.now()),
      checkQuarantine(client),
    ]);
    return {
      checks: [
        ok('token', `accepted (from ${connection.tokenFrom})`),
        ...checkWorkers(items, Date.now()),
        ...ofLost,
        ...checkPools(items),
        checkLatches(latches),
        ...ofOrders,
        ...ofKillswitch,
        ofRecords,
      ],
      workers: items,
    };
  } catch (error) {
    if (!isBelayError(error)) throw error;
    return { checks: [failedQuestion(error, connection)], workers: undefined };
  }
}

/** The orchestrator is up, but could not or would not answer a question. */
function failedQuestion({ code, message }: BelayError, { tokenFrom }: Connection): Check {
  if (code === 'UNAUTHORIZED')
    return fail('token', `refused (from ${tokenFrom})`, 'use the data dir of its belay up, or BELAY_TOKEN');
  const advice =
    code === 'SERVER_UNREACHABLE' || code === 'OUTCOME_UNKNOWN'
      ? 'its state server does not answer; to stop agents all the same, on each machine: belay kill --local'
      : 'look at its log';
  return fail('state', `the orchestrator cannot tell what runs: ${message}`, advice);
}

/** One line for each worker that is not stopped. A lease that ran out means a silent worker. */
export function checkWorkers(workers: readonly WorkerRecord[], now: number): Check[] {
  if (workers.length === 0)
    return [warn('workers', 'none: nothing will run', 'belay worker, or belay up --workers 2')];
  return workers.map((worker) => {
    const text = `${worker.id} on ${worker.host} ${worker.state}, ${worker.running}/${worker.concurrency} busy, lease ${describeLease(worker, now)}`;
    const isLost = worker.leaseExpiresAt !== undefined && worker.leaseExpiresAt <= now;
    if (isLost) return fail('worker', text, 'it is gone or cut off; other workers soon retry its nodes');
    return worker.state === 'running' ? ok('worker', text) : warn('worker', text);
  });
}

async function checkLost(client: BelayClient, now: number): Promise<Check[]> {
  try {
    const { items } = await client.workers({ lost: true });
    return describeLost(items, now);
  } catch (error) {
    // An older orchestrator does not know this question.
    if (!isBelayError(error) || (error.code !== 'NOT_FOUND' && error.code !== 'INVALID_REQUEST')) throw error;
    return [warn('worker', `cannot tell whether one was lost: ${error.message}`)];
  }
}

/** Workers that vanished lately: their agents may still run. */
export function describeLost(lost: readonly WorkerRecord[], now: number): Check[] {
  const advice = 'if its machine still runs, look there with: belay kill --local --all --dry-run';
  const checks = lost.slice(0, LOST_SHOWN).map(({ id, host, stoppedAt = now }) => {
    const ago = formatDuration(Math.max(0, now - stoppedAt));
    return warn('worker', `${id} on ${host} was lost ${ago} ago: its lease ran out`, advice);
  });
  const more = lost.length - checks.length;
  if (more > 0) checks.push(warn('worker', `${count(more, 'further worker')} lost within the last hour`));
  return checks;
}

/** The pools with workers: a node of any other pool waits. */
export function checkPools(workers: readonly WorkerRecord[]): Check[] {
  const pools = [...poolsOf(workers)].map(([pool, n]) => `${pool} (${count(n, 'worker')})`);
  return pools.length === 0 ? [] : [ok('pools', `served: ${pools.join(', ')}`)];
}

/** A latch is no fault, but it explains why nothing starts. */
export function checkLatches(latches: readonly Latch[]): Check {
  if (latches.length === 0) return ok('latches', 'none engaged');
  const freezes = latches.filter(({ kind }) => kind === 'freeze').length;
  const pauses = latches.filter(({ kind }) => kind === 'pause').length;
  const plain = latches.length - freezes - pauses;
  const parts = [
    ...(plain > 0 ? [count(plain, 'latch', 'latches')] : []),
    ...(pauses > 0 ? [count(pauses, 'pause of a queue', 'pauses of queues')] : []),
    ...(freezes > 0 ? [count(freezes, 'freeze')] : []),
  ];
  return warn('latches', `engaged: ${parts.join(', ')}`, 'belay latches shows their scopes');
}
