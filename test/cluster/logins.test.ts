import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, startThrowawayServer } from '#libs/local-server';
import { makeCertificates, noCertificates, tlsArguments, type Certificates } from '../support/certificates';
import { killPrimary } from '../support/failures';
import { eventually, processesWith } from '../support/fleet';
import {
  guard,
  operatorUrl,
  startCluster,
  startSentinelSet,
  type Access,
  type ManyServers,
} from '../support/many-servers';
import { BELAY_USER, BELAY_USERS } from '../support/logins';
import { fleetPerTest } from '../support/own-fleet';

const sh = (script: string) => ({ command: [script], shell: true });

const { begin, fleet, it: test, onEnd } = fleetPerTest();

/** One server, as a set of one. */
async function startSingle({ tls }: Access): Promise<ManyServers> {
  const port = await freePort();
  const server = await startThrowawayServer({
    listen: 'tcp',
    args: tls === undefined ? [] : tlsArguments(tls, port),
  });
  await guard(server, [BELAY_USER]);
  const login = `${BELAY_USER.name}:${encodeURIComponent(BELAY_USER.password)}`;
  const host = `127.0.0.1:${tls === undefined ? new URL(server.url).port : port}`;
  return {
    url: `redis${tls === undefined ? '' : 's'}://${login}@${host}`,
    servers: [server],
    primary: async () => server,
    stop: async () => server.stop(),
  };
}

const MODES = [
  { mode: 'one server', start: startSingle, failsOver: false },
  { mode: 'Sentinel', start: startSentinelSet, failsOver: true },
  { mode: 'Cluster', start: startCluster, failsOver: true },
];

const why = noCertificates();
if (why !== undefined) process.stderr.write(`  not run over TLS: ${why}\n`);

describe.each(
  MODES.flatMap((mode) => [
    { ...mode, by: 'a login', secure: false },
    ...(why === undefined ? [{ ...mode, by: 'a login over TLS', secure: true }] : []),
  ]),
)('$mode by $by', ({ mode, start, failsOver, secure }) => {
  async function setUp(): Promise<ManyServers> {
    const dir = mkdtempSync(join(tmpdir(), 'belay-tls-'));
    onEnd(() => rmSync(dir, { recursive: true, force: true }));
    const tls: Certificates | undefined = secure ? makeCertificates(dir) : undefined;
    const many = await start({ ...(tls === undefined ? {} : { tls }), users: BELAY_USERS });
    onEnd(async () => many.stop());
    const env = {
      BELAY_GRACE_MS: '300',
      BELAY_VALKEY_URL: many.url,
      ...(tls === undefined ? {} : { NODE_EXTRA_CA_CERTS: tls.authority }),
    };
    // The test reads the records over the plain port, since this process does not trust the authority.
    await begin({ url: operatorUrl(await many.primary('{belay:ctl}')), workers: 2, env });
    return many;
  }

  const submit = async (...nodes: object[]): Promise<string> =>
    (await fleet.client.createExecution({ name: 'test', nodes })).execution.id;

  async function stops(): Promise<void> {
    const id = await submit({ id: 'a', run: sh('trap "" TERM; echo ready; while :; do sleep 0.1; done') });
    await eventually(
      async () => (await fleet.client.agents({ executionId: id, state: ['running'] })).items.length === 1,
      'its agent',
    );
    expect(await fleet.client.stop(id)).toMatchObject({ status: 'stopped', receipt: { complete: true } });
    expect(processesWith(id)).toEqual([]);
  }

  test('R25 R52 R55 runs, follows a log, stops with proof, drills, and goes on after a failover', async () => {
    const many = await setUp();
    const id = await submit(
      { id: 'a', run: sh('echo one; sleep 0.3; echo two') },
      { id: 'b', dependsOn: ['a'], run: sh('true') },
    );
    const [agent] = await eventually(async () => {
      const { items } = await fleet.client.agents({ executionId: id });
      return items.length > 0 && items;
    }, 'its agent');
    const lines: string[] = [];
    for await (const { line } of fleet.client.logs(agent?.id ?? '', { follow: true })) lines.push(line);
    expect(lines).toEqual(['one', 'two']);
    expect(await fleet.client.waitForEnd(id)).toMatchObject({ state: 'completed' });
    await stops();
    const { items } = await fleet.client.drill();
    expect(items.filter(({ passed }) => !passed)).toEqual([]);
    const latch = await fleet.client.engageLatch({ scope: { type: 'all' } });
    await fleet.client.releaseLatch(latch.id, 'tested');
    expect(await fleet.client.verifyAudit()).toMatchObject({ intact: true });
    if (!failsOver) return;
    await killPrimary(many, '{belay:ctl}');
    await stops();
    await eventually(async () => (await fleet.client.armed()).armed, 'a fleet that can stop everything');
  }, 120_000);

  test('R66 a process with a wrong password, or without trust, is told so at its start, and no password is shown', async () => {
    const many = await setUp();
    const wrong = many.url.replace(encodeURIComponent(BELAY_USER.password), 'wrong-password');
    const refused = async (more: Record<string, string>): Promise<string> =>
      fleet.addWorker(more).then(
        () => 'it started',
        (error: unknown) => (error as Error).message,
      );
    const said = await refused({ BELAY_VALKEY_URL: wrong });
    expect(said).toContain('WRONGPASS');
    expect(said).not.toContain('wrong-password');
    expect(said).not.toContain(BELAY_USER.password);
    if (!secure) return;
    const untrusted = await refused({ NODE_EXTRA_CA_CERTS: '' });
    expect(untrusted).toContain('cannot be reached');
    // The error about a sentinel's or a Cluster node's certificate is lost on the way here.
    if (mode === 'one server') expect(untrusted).toMatch(/certificate/);
  }, 120_000);
});
