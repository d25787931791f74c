import { freePort, startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { Redis } from 'ioredis';
import { tlsArguments, type Certificates } from './certificates';
import { until as seen } from './wait';

/** The servers of one test that together keep one state. */
export interface ManyServers {
  /** For BELAY_VALKEY_URL. */
  readonly url: string;
  /** Without the sentinels. */
  readonly servers: readonly ThrowawayServer[];
  /** The server that takes writes now; on a Cluster the primary of that key's slot. */
  primary(key?: string): Promise<ThrowawayServer>;
  stop(): Promise<void>;
}

const LOOPBACK = '127.0.0.1';
/**
 * Short, so that a test sees a whole failover; a real set has seconds. A machine that is suspended for as long has another
 * failover, away from a live primary, and the primary's last writes are lost (docs/deployment.md). Milliseconds.
 */
const DOWN_AFTER_MS = 1_000;

/** How to reach a set; without any of these, everybody can. */
export interface Access {
  /** TLS between all servers, and for clients at ports of its own; tests themselves use the plain ports. */
  readonly tls?: Certificates;
  /** Only these users may log in, with these ACL rules; the sentinels use `sentinel`. */
  readonly users?: { readonly server: Login; readonly sentinel: Login };
}

/** How to start a set. */
interface Start extends Access {
  /** Arguments of each server. */
  readonly args?: readonly string[];
  /** After this silence a server counts as dead. Milliseconds. */
  readonly downAfterMs?: number;
}

/** A user, its password, and its rights. */
export interface Login {
  readonly name: string;
  readonly password: string;
  readonly rules: readonly string[];
}

/** The tests' own login, where a server requires one. */
const OPERATOR: Login = { name: 'operator', password: 'operator-secret', rules: ['~*', '&*', '+@all'] };
const guarded = new WeakSet<ThrowawayServer>();
const tlsPorts = new WeakMap<ThrowawayServer, number>();

/** The URL of the tests' own connection to a guarded server. */
export function operatorUrl(server: ThrowawayServer): string {
  return `redis://${OPERATOR.name}:${OPERATOR.password}@${LOOPBACK}:${portOf(server)}`;
}

function portOf(server: ThrowawayServer): number {
  return Number(new URL(server.url).port);
}

/** The port by which the servers know each other. */
function peerPort(server: ThrowawayServer): number {
  return tlsPorts.get(server) ?? portOf(server);
}

/** From here on only `users` and the operator may log in; present connections must log in again. */
export async function guard(server: ThrowawayServer, users: readonly Login[]): Promise<void> {
  for (const { name, password, rules } of [OPERATOR, ...users])
    await call(server, 'ACL', 'SETUSER', name, 'on', `>${password}`, ...rules);
  await call(server, 'ACL', 'SETUSER', 'default', 'off');
  guarded.add(server);
  for (const kind of ['normal', 'pubsub', 'replica'])
    await call(server, 'CLIENT', 'KILL', 'TYPE', kind, 'SKIPME', 'yes');
}

/** Makes one call on a connection of its own. */
export async function call(
  server: ThrowawayServer,
  ...command: [string, ...(string | number)[]]
): Promise<unknown> {
  const login = guarded.has(server) ? { username: OPERATOR.name, password: OPERATOR.password } : {};
  const redis = new Redis(portOf(server), LOOPBACK, {
    maxRetriesPerRequest: 0,
    retryStrategy: null,
    ...login,
  });
  redis.on('error', () => undefined);
  try {
    return await redis.call(...command);
  } finally {
    // A connection that has ended by itself would keep a timer for two seconds.
    if (redis.status !== 'end') redis.disconnect();
  }
}

const until = async (look: () => Promise<boolean>, what: string): Promise<void> => seen(look, what, 30_000);

async function start(
  count: number,
  options: { args: () => Promise<readonly string[]>; tls: Certificates | undefined; config?: string },
): Promise<ThrowawayServer[]> {
  const servers: ThrowawayServer[] = [];
  for (let i = 0; i < count; i++) {
    const port = await freePort();
    const tlsPort = await freePort();
    const tls = options.tls === undefined ? [] : tlsArguments(options.tls, tlsPort);
    const server = await startThrowawayServer({
      listen: 'tcp',
      port,
      args: [...(await options.args()), ...tls],
      ...(options.config === undefined ? {} : { config: options.config }),
    });
    if (options.tls !== undefined) tlsPorts.set(server, tlsPort);
    servers.push(server);
  }
  return servers;
}

function schemeOf(kind: 'sentinel' | 'cluster', { tls, users }: Access): string {
  const login =
    users === undefined ? '' : `${users.server.name}:${encodeURIComponent(users.server.password)}@`;
  return `redis${tls === undefined ? '' : 's'}+${kind}://${login}`;
}

async function stopAll(servers: readonly ThrowawayServer[]): Promise<void> {
  await Promise.all(servers.map(async (server) => server.stop()));
}

/** One primary, two replicas, three sentinels with a quorum of two. */
export async function startSentinelSet(options: Start = {}): Promise<ManyServers> {
  const { tls, users, downAfterMs = DOWN_AFTER_MS } = options;
  const servers = await start(3, {
    args: async () => ['--repl-diskless-sync-delay', '0', ...(options.args ?? [])],
    tls,
  });
  const [first] = servers as [ThrowawayServer, ...ThrowawayServer[]];
  for (const replica of servers.slice(1)) await call(replica, 'REPLICAOF', LOOPBACK, peerPort(first));
  await until(
    async () => (String(await call(first, 'INFO', 'replication')).match(/state=online/g) ?? []).length === 2,
    'the replication',
  );
  const config = [
    `sentinel monitor mymaster ${LOOPBACK} ${peerPort(first)} 2`,
    `sentinel down-after-milliseconds mymaster ${downAfterMs}`,
    'sentinel failover-timeout mymaster 5000',
    'sentinel parallel-syncs mymaster 2',
  ].join('\n');
  const sentinels = await start(3, { args: async () => ['--sentinel'], tls, config: `${config}\n` });
  const known = async (sentinel: ThrowawayServer): Promise<boolean> => {
    const text = String(await call(sentinel, 'INFO', 'sentinel'));
    return text.includes('status=ok') && text.includes('slaves=2') && text.includes('sentinels=3');
  };
  await until(
    async () => (await Promise.all(sentinels.map(known))).every(Boolean),
    'the acquaintance of the sentinels',
  );
  if (users !== undefined) {
    for (const server of servers) {
      await call(server, 'CONFIG', 'SET', 'masteruser', OPERATOR.name, 'masterauth', OPERATOR.password);
      await guard(server, [users.server]);
    }
    for (const sentinel of sentinels) {
      const own = ['auth-user', OPERATOR.name, 'auth-pass', OPERATOR.password];
      await call(sentinel, 'SENTINEL', 'SET', 'mymaster', ...own);
      await call(sentinel, 'SENTINEL', 'CONFIG', 'SET', 'sentinel-user', OPERATOR.name);
      await call(sentinel, 'SENTINEL', 'CONFIG', 'SET', 'sentinel-pass', OPERATOR.password);
      await guard(sentinel, [users.sentinel]);
    }
    await until(
      async () => (await Promise.all(sentinels.map(known))).every(Boolean),
      'the acquaintance of the sentinels once they log in',
    );
  }
  const hosts = sentinels.map((sentinel) => `${LOOPBACK}:${peerPort(sentinel)}`).join(',');
  const own = users?.sentinel;
  const query =
    own === undefined
      ? ''
      : `?sentinelUsername=${own.name}&sentinelPassword=${encodeURIComponent(own.password)}`;
  return {
    url: `${schemeOf('sentinel', options)}${hosts}/mymaster${query}`,
    servers,
    primary: async () => {
      const found = (await call(
        sentinels[0] as ThrowawayServer,
        'SENTINEL',
        'get-master-addr-by-name',
        'mymaster',
      )) as string[];
      const server = servers.find((one) => peerPort(one) === Number(found[1]));
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

/** Three primaries with a replica each, by default: `replicas` is 0 or 1 of each primary. */
export async function startCluster(
  options: Start & { primaries?: number; replicas?: 0 | 1 } = {},
): Promise<ManyServers> {
  const { tls, users, downAfterMs = DOWN_AFTER_MS, primaries: count = 3, replicas: each = 1 } = options;
  const total = count * (1 + each);
  const servers = await start(total, {
    args: async () =>
      [
        ['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf'],
        ['--cluster-node-timeout', String(downAfterMs), '--cluster-port', String(await freePort())],
        ['--repl-diskless-sync-delay', '0', ...(options.args ?? [])],
        tls === undefined ? [] : ['--tls-cluster', 'yes'],
      ].flat(),
    tls,
  });
  const primaries = servers.slice(0, count);
  const [first] = servers as [ThrowawayServer, ...ThrowawayServer[]];
  const width = Math.ceil(16_384 / count);
  for (const [i, server] of primaries.entries())
    await call(server, 'CLUSTER', 'ADDSLOTSRANGE', i * width, Math.min((i + 1) * width, 16_384) - 1);
  for (const [i, server] of servers.entries()) await call(server, 'CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
  for (const server of servers.slice(1)) {
    const bus = /@(\d+)/.exec(String(await call(server, 'CLUSTER', 'NODES')))?.[1] ?? '';
    await call(first, 'CLUSTER', 'MEET', LOOPBACK, peerPort(server), bus);
  }
  const nodes = async (server: ThrowawayServer): Promise<string[]> =>
    String(await call(server, 'CLUSTER', 'NODES'))
      .split('\n')
      .filter((line) => line !== '');
  await until(
    async () => (await Promise.all(servers.map(nodes))).every((lines) => lines.length === total),
    'the acquaintance of the nodes',
  );
  for (const [i, replica] of servers.slice(count).entries())
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
    return (
      replicas === total - count && String(await call(server, 'CLUSTER', 'INFO')).includes('cluster_state:ok')
    );
  };
  await until(
    async () => (await Promise.all(servers.map(healthy))).every(Boolean),
    'the health of the cluster',
  );
  await until(async () => {
    const links = await Promise.all(
      primaries.map(async (server) => String(await call(server, 'INFO', 'replication'))),
    );
    return each === 0 || links.every((text) => text.includes('state=online'));
  }, 'the replication');
  if (users !== undefined) {
    for (const server of servers) {
      await call(server, 'CONFIG', 'SET', 'masteruser', OPERATOR.name, 'masterauth', OPERATOR.password);
      await guard(server, [users.server]);
    }
    await until(
      async () => (await Promise.all(servers.map(healthy))).every(Boolean),
      'the health of the cluster once its nodes log in',
    );
  }
  const hosts = servers.map((server) => `${LOOPBACK}:${peerPort(server)}`).join(',');
  return {
    url: `${schemeOf('cluster', options)}${hosts}`,
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
