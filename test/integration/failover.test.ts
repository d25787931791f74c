import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isBelayError } from '#libs/contracts';
import { makeCertificates, noCertificates, type Certificates } from '../support/certificates';
import { killPrimary } from '../support/failures';
import { ready } from '../support/executions';
import { DEAF, ENV, SMALL } from '../support/failover';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';
import { BELAY_USERS } from '../support/logins';
import { operatorUrl, startCluster, startSentinelSet, type ManyServers } from '../support/many-servers';

/** The short form of test/cluster, with one set of servers and one fleet for each mode. */
const EXECUTIONS = 20;
/** Beside other tests a server may stand still for a second. Only the requested failover may happen. Milliseconds. */
const DOWN_AFTER_MS = 3_000;
/** For servers and a fleet, on a busy machine. Milliseconds. */
const PATIENCE_MS = 120_000;

const why = noCertificates();
if (why !== undefined) process.stderr.write(`  not over TLS: ${why}\n`);
const way = why === undefined ? 'by logins over TLS' : 'by logins';

describe.each([
  { mode: 'Sentinel', start: startSentinelSet },
  { mode: 'Cluster', start: startCluster },
])(`$mode, ${way}`, ({ start }) => {
  const dir = mkdtempSync(join(tmpdir(), 'belay-failover-'));
  let many: ManyServers | undefined;
  let fleet: Fleet;

  const servers = (): ManyServers => {
    if (many === undefined) throw new Error('the servers were not started');
    return many;
  };

  beforeAll(async () => {
    const tls: Certificates | undefined = why === undefined ? makeCertificates(dir) : undefined;
    many = await start({
      ...(tls === undefined ? {} : { tls }),
      users: BELAY_USERS,
      downAfterMs: DOWN_AFTER_MS,
    });
    const env = {
      ...ENV,
      BELAY_VALKEY_URL: many.url,
      ...(tls === undefined ? {} : { NODE_EXTRA_CA_CERTS: tls.authority }),
    };
    // The test reads the records over the plain port, since this process does not trust the authority.
    fleet = await startFleet({ url: operatorUrl(await many.primary('{belay:ctl}')), workers: 2, env });
  }, PATIENCE_MS);

  afterAll(async () => {
    await fleet?.stop();
    await many?.stop();
    rmSync(dir, { recursive: true, force: true });
  }, PATIENCE_MS);

  const submit = async (spec: unknown): Promise<string> =>
    (await fleet.client.createExecution(spec)).execution.id;

  /** Both agents of a submitted `DEAF` spec. */
  async function deaf(): Promise<string> {
    const id = await submit(DEAF);
    await ready(fleet.client, id, 2);
    return id;
  }

  it(
    'R25 R52 R55 runs a DAG, stops with proof and answers the guards',
    async () => {
      expect(await fleet.client.waitForEnd(await submit(SMALL))).toMatchObject({ state: 'completed' });
      const id = await deaf();
      expect(await fleet.client.stop(id)).toMatchObject({
        status: 'stopped',
        receipt: { complete: true, replicated: true, totals: { killed: 2 } },
      });
      expect(processesWith(id)).toEqual([]);
      expect((await fleet.client.armed()).armed).toBe(true);
    },
    PATIENCE_MS,
  );

  it(
    `R25 R52 the primary is killed: a kill given meanwhile is obeyed, ${EXECUTIONS} accepted executions end as they should`,
    async () => {
      const id = await deaf();
      const accepted: string[] = [];
      const refused: string[] = [];
      let next = 0;
      const submitter = async (): Promise<void> => {
        while (next++ < EXECUTIONS)
          await submit(SMALL).then(
            (one) => accepted.push(one),
            (error: unknown) => refused.push(isBelayError(error) ? error.code : String(error)),
          );
      };
      const submitting = Promise.all([submitter(), submitter(), submitter()]);
      await eventually(() => accepted.length >= EXECUTIONS * 0.3, 'some accepted executions');
      await killPrimary(servers(), '{belay:ctl}');
      const stop = await fleet.client.stop(id);
      expect(stop).toMatchObject({ status: 'stopped', receipt: { complete: true, totals: { killed: 2 } } });
      expect(processesWith(id)).toEqual([]);
      await submitting;
      expect(refused).toEqual([]);
      const ends = await Promise.all(accepted.map(async (one) => fleet.client.waitForEnd(one)));
      expect(ends.map(({ state }) => state)).toEqual(accepted.map(() => 'completed'));
    },
    PATIENCE_MS,
  );

  it(
    'R25 R53 R55 on the next primary everything is as before: latches, stops with proof, drills, the audit log',
    async () => {
      const latch = await fleet.client.engageLatch({ scope: { type: 'all' } });
      await expect(submit(SMALL)).rejects.toMatchObject({ code: 'LATCHED' });
      await fleet.client.releaseLatch(latch.id, 'tested');
      const id = await deaf();
      expect(await fleet.client.stop(id)).toMatchObject({ status: 'stopped', receipt: { complete: true } });
      expect(processesWith(id)).toEqual([]);
      const { items } = await fleet.client.drill();
      expect(items.filter(({ passed }) => !passed)).toEqual([]);
      expect(await fleet.client.verifyAudit()).toMatchObject({ intact: true });
      await eventually(async () => (await fleet.client.armed()).armed, 'a fleet that can stop everything');
      expect((await fleet.client.workers()).items.filter(({ state }) => state === 'running')).toHaveLength(2);
    },
    PATIENCE_MS,
  );
});
