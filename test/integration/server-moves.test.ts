import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { Link } from '../faults/link';
import { ended } from '../support/executions';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';
import { call } from '../support/many-servers';

/*
 * A server's name leads to another address. The members look it up as any program does, with the system's resolver, in
 * a mount namespace of their own whose /etc/hosts the test writes; no privilege is needed where users may make one.
 */
const NAME = 'valkey.test';
const OLD = '127.0.0.1';
const NEW = '127.0.0.2';
const SLEEP = { command: ['echo ready; exec sleep 600'], shell: true };
const ENV = { BELAY_LEASE_TTL_MS: '60000', BELAY_HEARTBEAT_MS: '300', BELAY_GRACE_MS: '300' };

const UNSHARE = ['unshare', ...(process.getuid?.() === 0 ? ['-m'] : ['-Urm'])];
const canMount =
  spawnSync(UNSHARE[0] ?? '', [...UNSHARE.slice(1), 'mount', '--bind', '/etc/hosts', '/etc/hosts']).status ===
  0;
if (!canMount)
  process.stderr.write(
    '  skipped: no mount namespace can be made here, so a name cannot be moved for one process alone\n',
  );
const test = canMount ? it : it.skip;

interface Place {
  readonly old: Link;
  readonly next: Link;
  readonly servers: readonly ThrowawayServer[];
}

/** The behaviour of the old address once the name leads to the new one. */
const MOVES: { how: string; replicated?: true; leave: (place: Place) => Promise<void> }[] = [
  { how: 'refuses', leave: async ({ old }) => old.refuse() },
  // Nothing arrives and nothing breaks, for good.
  { how: 'says nothing any more', leave: async ({ old }) => old.stall() },
  {
    how: 'is a replica of the new one',
    replicated: true,
    leave: async ({ servers: [first, second] }) => {
      if (first === undefined || second === undefined) throw new Error('two servers are needed');
      await call(second, 'REPLICAOF', 'NO', 'ONE');
      await call(first, 'REPLICAOF', OLD, new URL(second.url).port);
    },
  },
];

let fleet: Fleet;
let place: Place;
let dir: string;

async function setUp(replicated: boolean): Promise<(address: string) => void> {
  dir = mkdtempSync(join(tmpdir(), 'belay-hosts-'));
  const hosts = join(dir, 'hosts');
  // In place: the file is mounted, not its name.
  const lead = (address: string): void =>
    writeFileSync(hosts, `${readFileSync('/etc/hosts', 'utf8')}\n${address} ${NAME}\n`);
  lead(OLD);
  const start = async (): Promise<ThrowawayServer> =>
    startThrowawayServer({ listen: 'tcp', args: ['--repl-diskless-sync-delay', '0'] });
  const first = await start();
  const servers = replicated ? [first, await start()] : [first];
  const [, second] = servers;
  if (second !== undefined) {
    await call(second, 'REPLICAOF', OLD, new URL(first.url).port);
    await eventually(
      async () => String(await call(first, 'INFO', 'replication')).includes('state=online'),
      'the replication',
    );
  }
  const old = await Link.open(upstreamOf(first));
  const port = Number(new URL(old.url).port);
  const next = await Link.open(upstreamOf(second ?? first), { host: NEW, port });
  place = { old, next, servers };
  fleet = await startFleet({
    url: first.url,
    workers: 1,
    env: { ...ENV, BELAY_VALKEY_URL: `redis://${NAME}:${port}` },
    launcher: [...UNSHARE, 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts],
  });
  return lead;
}

function upstreamOf({ url }: ThrowawayServer): { host: string; port: number } {
  return { host: OLD, port: Number(new URL(url).port) };
}

afterEach(async () => {
  if (!canMount) return;
  await fleet.stop();
  place.old.close();
  place.next.close();
  for (const server of place.servers) await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe.each(MOVES)(
  'the server’s name leads elsewhere, and the old address $how',
  ({ leave, replicated }) => {
    test('R25 R52 it is looked up again: agents run on, kills are obeyed, work goes on', async () => {
      const lead = await setUp(replicated === true);
      const submit = async (run: object): Promise<string> =>
        (await fleet.client.createExecution({ name: 'test', nodes: [{ id: 'a', run }] })).execution.id;
      const [steady, victim] = [await submit(SLEEP), await submit(SLEEP)];
      for (const id of [steady, victim])
        await eventually(
          async () => (await fleet.client.agents({ executionId: id, state: ['running'] })).items.length === 1,
          'its agent',
        );
      const untouched = processesWith(steady);
      lead(NEW);
      await leave(place);
      const stop = await eventually(
        async () => fleet.client.stop(victim).catch(() => undefined),
        'an answer from the new address',
        60_000,
      );
      expect(stop).toMatchObject({ status: 'stopped', receipt: { complete: true } });
      expect(processesWith(victim)).toEqual([]);
      expect(processesWith(steady)).toEqual(untouched);
      const after = await submit({ command: ['true'] });
      expect(await ended(fleet.client, after)).toMatchObject({ state: 'completed' });
      await eventually(async () => (await fleet.client.armed()).armed, 'a fleet that can stop everything');
      for (const { process: child } of [...fleet.workers, ...fleet.orchestrators])
        expect(child.exitCode).toBeNull();
    });
  },
);
