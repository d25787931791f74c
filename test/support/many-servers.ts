import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { startThrowawayServer, type ThrowawayServer } from '#libs/valkey';
import { Redis } from 'ioredis';

/** Servers of one test that stand for one state. */
export interface ManyServers {
  /** For BELAY_VALKEY_URL. */
  readonly url: string;
  /** Without the sentinels. */
  readonly servers: readonly ThrowawayServer[];
  /** The one that is written to now; on a Cluster the primary of that key's slot. */
  primary(key?: string): Promise<ThrowawayServer>;
  stop(): Promise<void>;
}

const LOOPBACK = '127.0.0.1';
/** Short, so that a test sees a whole failover; a real set has seconds. Milliseconds. */
const DOWN_AFTER_MS = 1_000;

function portOf(server: ThrowawayServer): number {
  return Number(new URL(server.url).port);
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, LOOPBACK, () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** One call on a connection of its own. */
export async function call(
  server: ThrowawayServer,
  ...command: [string, ...(string | number)[]]
): Promise<unknown> {
  const redis = new Redis(portOf(server), LOOPBACK, { maxRetriesPerRequest: 0, retryStrategy: null });
  redis.on('error', () => undefined);
  try {
    return await redis.call(...command);
  } finally {
    redis.disconnect();
  }
}

async function until(look: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await look().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`${what} did not happen within 30 s`);
    await pause(50);
  }
}

async function start(
  count: number,
  args: (port: number) => Promise<readonly string[]>,
  appendonly: boolean,
): Promise<ThrowawayServer[]> {
  const servers: ThrowawayServer[] = [];
  for (let i = 0; i < count; i++) {
    const port = await freePort();
    servers.push(await startThrowawayServer({ listen: 'tcp', port, appendonly, args: await args(port) }));
  }
  return servers;
}

async function stopAll(servers: readonly ThrowawayServer[]): Promise<void> {
  await Promise.all(servers.map(async (server) => server.stop()));
}

/** One primary, two replicas, three sentinels that need two voices. */
export async function startSentinelSet(options: { args?: readonly string[] } = {}): Promise<ManyServers> {
  const servers = await start(
    3,
    async () => ['--repl-diskless-sync-delay', '0', ...(options.args ?? [])],
    false,
  );
  const [first] = servers as [ThrowawayServer, ...ThrowawayServer[]];
  for (const replica of servers.slice(1)) await call(replica, 'REPLICAOF', LOOPBACK, portOf(first));
  await until(
    async () => (String(await call(first, 'INFO', 'replication')).match(/state=online/g) ?? []).length === 2,
    'the replication',
  );
  const sentinels: ThrowawayServer[] = [];
  for (let i = 0; i < 3; i++) {
    const config = [
      `sentinel monitor mymaster ${LOOPBACK} ${portOf(first)} 2`,
      `sentinel down-after-milliseconds mymaster ${DOWN_AFTER_MS}`,
      'sentinel failover-timeout mymaster 5000',
      'sentinel parallel-syncs mymaster 2',
    ].join('\n');
    sentinels.push(
      await startThrowawayServer({ listen: 'tcp', config: `${config}\n`, args: ['--sentinel'] }),
    );
  }
  const known = async (sentinel: ThrowawayServer): Promise<boolean> => {
    const text = String(await call(sentinel, 'INFO', 'sentinel'));
    return text.includes('status=ok') && text.includes('slaves=2') && text.includes('sentinels=3');
  };
  await until(
    async () => (await Promise.all(sentinels.map(known))).every(Boolean),
    'the acquaintance of the sentinels',
  );
  const hosts = sentinels.map((sentinel) => `${LOOPBACK}:${portOf(sentinel)}`).join(',');
  return {
    url: `redis+sentinel://${hosts}/mymaster`,
    servers,
    primary: async () => {
      const found = (await call(
        sentinels[0] as ThrowawayServer,
        'SENTINEL',
        'get-master-addr-by-name',
        'mymaster',
      )) as string[];
      const server = servers.find((one) => portOf(one) === Number(found[1]));
      if (server === undefined)
        throw new Error(`the sentinels name ${found.join(':')}, which is none of ours`);
      return server;
    },
    stop: async () => {
      await stopAll(sentinels);
      await stopAll(servers);
    },
  };
}

/** Three primaries, each with a replica. */
export async function startCluster(options: { args?: readonly string[] } = {}): Promise<ManyServers> {
  const servers = await start(
    6,
    async () =>
      [
        ['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf'],
        ['--cluster-node-timeout', String(DOWN_AFTER_MS), '--cluster-port', String(await freePort())],
        ['--repl-diskless-sync-delay', '0', ...(options.args ?? [])],
      ].flat(),
    false,
  );
  const primaries = servers.slice(0, 3);
  const [first] = servers as [ThrowawayServer, ...ThrowawayServer[]];
  const width = Math.ceil(16_384 / 3);
  for (const [i, server] of primaries.entries())
    await call(server, 'CLUSTER', 'ADDSLOTSRANGE', i * width, Math.min((i + 1) * width, 16_384) - 1);
  for (const [i, server] of servers.entries()) await call(server, 'CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
  for (const server of servers.slice(1)) {
    const bus = /@(\d+)/.exec(String(await call(server, 'CLUSTER', 'NODES')))?.[1] ?? '';
    await call(first, 'CLUSTER', 'MEET', LOOPBACK, portOf(server), bus);
  }
  const nodes = async (server: ThrowawayServer): Promise<string[]> =>
    String(await call(server, 'CLUSTER', 'NODES'))
      .split('\n')
      .filter((line) => line !== '');
  await until(
    async () => (await Promise.all(servers.map(nodes))).every((lines) => lines.length === 6),
    'the acquaintance of the nodes',
  );
  for (const [i, replica] of servers.slice(3).entries())
    await call(
      replica,
      'CLUSTER',
      'REPLICATE',
      String(await call(primaries[i] as ThrowawayServer, 'CLUSTER', 'MYID')),
    );
  const healthy = async (server: ThrowawayServer): Promise<boolean> => {
    const replicas = (await nodes(server)).filter(
      (line) => line.includes('slave') && line.includes(' connected'),
    ).length;
    return replicas === 3 && String(await call(server, 'CLUSTER', 'INFO')).includes('cluster_state:ok');
  };
  await until(
    async () => (await Promise.all(servers.map(healthy))).every(Boolean),
    'the health of the cluster',
  );
  await until(async () => {
    const links = await Promise.all(
      primaries.map(async (server) => String(await call(server, 'INFO', 'replication'))),
    );
    return links.every((text) => text.includes('state=online'));
  }, 'the replication');
  return {
    url: `redis+cluster://${servers.map((server) => `${LOOPBACK}:${portOf(server)}`).join(',')}`,
    servers,
    primary: async (key = 'x') => {
      for (const server of servers) {
        const slot = Number(await call(server, 'CLUSTER', 'KEYSLOT', key).catch(() => -1));
        const rows = (await call(server, 'CLUSTER', 'SLOTS').catch(() => [])) as [
          number,
          number,
          [string, number],
        ][];
        const row = rows.find(([from, to]) => from <= slot && slot <= to);
        const found = servers.find((one) => portOf(one) === row?.[2][1]);
        if (found !== undefined) return found;
      }
      throw new Error('no node of the cluster answers');
    },
    stop: async () => stopAll(servers),
  };
}
