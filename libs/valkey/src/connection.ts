import type { Socket } from 'node:net';
import {
  describeUrl,
  parseValkeyUrl,
  ServerUnreachableError,
  BelayError,
  type ValkeyAddress,
} from '#libs/contracts';
import { Cluster, Redis, type ClusterOptions, type RedisOptions } from 'ioredis';
import { anyNode } from './any-node';
import { PrimaryConnector } from './sentinel-connector';
import { settleConnect } from './settle-connect';

/**
 * The use of a connection. `state`: scripts and reads; calls fail fast. `subscriber`: pub/sub alone. `blocking`: BullMQ and
 * blocking reads, which wait while the server is away.
 */
export type ConnectionRole = 'state' | 'subscriber' | 'blocking';

/** One connection, in any mode. On a Cluster a command goes to the primary of its key's slot. */
export type Server = Redis | Cluster;

const ROLE_OPTIONS: Record<ConnectionRole, RedisOptions> = {
  // A resent command may run twice. Scripts can be repeated, but only the caller decides when (docs/adr/0003). A connection
  // that is silent for this long is dropped: the server hangs, or the network path is gone. The call may be repeated, and a new
  // connection resolves the name anew.
  state: { maxRetriesPerRequest: 0, enableOfflineQueue: false, socketTimeout: 5_000 },
  subscriber: { maxRetriesPerRequest: null, socketTimeout: 5_000 },
  // Longer than BullMQ blocks (10 s).
  blocking: { maxRetriesPerRequest: null, socketTimeout: 15_000 },
};

const CONNECT_TIMEOUT_MS = 5_000;
const SENTINEL_ANSWER_MS = 3_000;
/** A server that loads its data announces how long it may still take, and is often ready long before. Milliseconds. */
const LOADING_LOOK_MS = 500;
/** The time between two reconnects because a server refuses writes. Milliseconds. */
const DEMOTED_LOOK_MS = 2_000;
/** The next refresh of the slots finds a primary that vanished silently. Milliseconds. */
const SLOTS_LOOK_MS = 2_000;
/** Times 100 ms: BullMQ's calls are retried for this long while a shard of the Cluster has no primary. */
const BLOCKING_RETRIES = 600;

const retryStrategy = (times: number): number => Math.min(50 * 2 ** Math.min(times, 6), 2_000);

/** @throws BelayError INVALID_SETTINGS */
export function addressOf(url: string): ValkeyAddress {
  const address = parseValkeyUrl(url);
  if (typeof address === 'object') return address;
  throw new BelayError('INVALID_SETTINGS', `BELAY_VALKEY_URL cannot be used: ${address}.`);
}

type Login = Pick<RedisOptions, 'username' | 'password' | 'tls'>;

function login({ username, password, tls }: ValkeyAddress): Login {
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls ? { tls: {} } : {}),
  };
}

/** ioredis options for one server, for the primary of a Sentinel set, or for any node of a Cluster. */
export function connectionOptions(address: ValkeyAddress, role: ConnectionRole): RedisOptions {
  const { mode, path, nodes, db } = address;
  const shared: RedisOptions = {
    ...ROLE_OPTIONS[role],
    ...login(address),
    ...(db === undefined ? {} : { db }),
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    maxLoadingRetryTime: LOADING_LOOK_MS,
    retryStrategy,
  };
  if (path !== undefined) return { ...shared, path };
  if (mode === 'single') return { ...shared, ...nodes[0], reconnectOnError: leaveReplica() };
  if (mode === 'cluster') return { ...shared, Connector: anyNode(address) };
  const { primary, tls, sentinelUsername, sentinelPassword } = address;
  return {
    ...shared,
    Connector: PrimaryConnector,
    sentinels: [...nodes],
    ...(primary === undefined ? {} : { name: primary }),
    ...(sentinelUsername === undefined ? {} : { sentinelUsername }),
    ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
    ...(tls ? { sentinelTLS: {}, enableTLSForSentinelMode: true } : {}),
    sentinelRetryStrategy: retryStrategy,
    // A sentinel that hangs with its connections open is passed over.
    sentinelCommandTimeout: SENTINEL_ANSWER_MS,
    // The sentinels announce when a primary that hangs is replaced.
    failoverDetector: true,
    // The server was demoted to a replica while this connection was open.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  };
}

/** Reconnects when the server became a replica: the host name, or a load balancer, may lead to the new primary by now. */
function leaveReplica(): (error: Error) => boolean {
  let leftAt = Number.NEGATIVE_INFINITY;
  return (error) => {
    const now = performance.now();
    if (!error.message.startsWith('READONLY') || now - leftAt < DEMOTED_LOOK_MS) return false;
    leftAt = now;
    return true;
  };
}

type StateOptions = ClusterOptions & { redisOptions: { replyMapping: 'legacy' } };

function clusterOptions(address: ValkeyAddress, role: ConnectionRole): StateOptions {
  const { maxRetriesPerRequest, socketTimeout } = ROLE_OPTIONS[role];
  return {
    lazyConnect: true,
    clusterRetryStrategy: retryStrategy,
    slotsRefreshInterval: SLOTS_LOOK_MS,
    slotsRefreshTimeout: SLOTS_LOOK_MS,
    // A call whose reply was lost must not be sent again by the client library (docs/adr/0003).
    ...(role === 'state' ? { retryDelayOnFailover: 0 } : { maxRedirections: BLOCKING_RETRIES }),
    // Certificates name hosts, not addresses.
    ...(address.tls ? { dnsLookup: (host, done) => done(null, host) } : {}),
    redisOptions: {
      ...login(address),
      connectTimeout: CONNECT_TIMEOUT_MS,
      maxLoadingRetryTime: LOADING_LOOK_MS,
      ...(socketTimeout === undefined ? {} : { socketTimeout }),
      replyMapping: 'legacy',
      ...(maxRetriesPerRequest === undefined ? {} : { maxRetriesPerRequest }),
    },
  };
}

/** ioredis queues calls while it knows no node of a Cluster. This class lets them fail fast there too. */
class StateCluster extends Cluster {
  override sendCommand(...args: Parameters<Cluster['sendCommand']>): unknown {
    const [command] = args;
    // The commands by which ioredis discovers the Cluster.
    if (this.status === 'ready' || this.status === 'wait' || command.name === 'cluster')
      return super.sendCommand(...args);
    command.reject(new Error('Connection is closed.'));
    return command.promise;
  }
}

/** The error of a Cluster's node, if there is one: the Cluster's own error hides a wrong password. */
function causeOf(error: Error & { lastNodeError?: Error }): string {
  return error.lastNodeError?.message ?? error.message;
}

/**
 * Makes `disconnect()` between two tries end the connection. In ioredis it only cancels the next try: the connection never
 * ends, and callers that wait for an answer wait for ever. One more try, cancelled before it begins, ends it. ioredis also
 * gives the socket of the last try two seconds to close, by a timer that nothing clears: a closed socket is taken from it
 * first.
 */
function endsWhenTold(redis: Redis): void {
  const disconnect = redis.disconnect.bind(redis);
  const { connector } = redis as unknown as { connector: { stream?: Socket | undefined } };
  redis.disconnect = (reconnect = false) => {
    const isBetween = redis.status === 'reconnecting';
    if (connector.stream?.closed === true) connector.stream = undefined;
    disconnect(reconnect);
    if (!isBetween || reconnect) return;
    redis.connect().catch(() => undefined);
    disconnect();
  };
}

/**
 * Opens connections to the server, the Sentinel set or the Cluster of one URL, and closes them all again. Connection
 * errors do not end the process: ioredis reconnects with backoff, and `onTrouble` hears of it once per outage.
 */
export class Connections {
  private readonly open = new Set<Server>();
  private readonly address: ValkeyAddress;
  private troubled = false;
  private lost = 0;

  /** @throws BelayError INVALID_SETTINGS */
  constructor(
    readonly url: string,
    private readonly onTrouble: (message: string) => void = () => undefined,
  ) {
    this.address = addressOf(url);
  }

  /** Connections that are open or being opened. */
  get count(): number {
    return this.open.size;
  }

  /** How often a connection was lost and opened again. On a Cluster: how often all of its nodes were gone. */
  get reconnects(): number {
    return this.lost;
  }

  get mode(): ValkeyAddress['mode'] {
    return this.address.mode;
  }

  /** A new connection of that role. It connects in the background. */
  create(role: 'subscriber'): Redis;
  create(role: ConnectionRole): Server;
  create(role: ConnectionRole): Server {
    const server = this.keep(this.make(role));
    const where = describeUrl(this.url);
    server.on('error', (error: Error) => {
      if (this.troubled) return;
      this.troubled = true;
      this.onTrouble(`Valkey at ${where} cannot be reached (${causeOf(error)}); trying again`);
    });
    server.on('ready', () => {
      if (this.troubled) this.onTrouble(`Valkey at ${where} is reachable again`);
      this.troubled = false;
    });
    return this.connecting(server);
  }

  /**
   * Keeps a connection and every copy of it, to be closed here: BullMQ waits on a copy, and forgets it when the server is away.
   */
  private keep<T extends Server>(server: T): T {
    this.open.add(server);
    // BullMQ ends and reopens the connection on which it blocks.
    server.on('end', () => this.open.delete(server));
    server.on('connect', () => this.open.add(server));
    server.on('reconnecting', () => this.lost++);
    const duplicate = server.duplicate.bind(server) as (...args: unknown[]) => Server;
    Object.assign(server, {
      duplicate: (...args: unknown[]) => this.connecting(this.keep(duplicate(...args))),
    });
    if (server instanceof Redis) endsWhenTold(server);
    else settleConnect(server);
    return server;
  }

  /**
   * Connects here. If BullMQ makes the first try and it fails, BullMQ gives up the connection for good, and its consumer hears
   * of no job for as long as it lives.
   */
  private connecting<T extends Server>(server: T): T {
    server.connect().catch(() => undefined);
    return server;
  }

  private make(role: ConnectionRole): Server {
    const { address } = this;
    // A plain connection to any node of a Cluster gets all of its pub/sub, and reports when it was cut.
    if (address.mode !== 'cluster' || role === 'subscriber')
      return new Redis({ ...connectionOptions(address, role), replyMapping: 'legacy' });
    const Kind = role === 'state' ? StateCluster : Cluster;
    return new Kind([...address.nodes], clusterOptions(address, role));
  }

  /** Waits until `server` answers, at most `timeoutMs`; then SERVER_UNREACHABLE. */
  async ready(server: Server, timeoutMs = 10_000): Promise<void> {
    if (server.status === 'ready') return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        server.off('ready', onReady);
        reject(new ServerUnreachableError(describeUrl(this.url)));
      }, timeoutMs);
      const onReady = (): void => {
        clearTimeout(timer);
        resolve();
      };
      server.once('ready', onReady);
    });
  }

  /** Closes every connection; none reconnects. */
  close(): void {
    for (const server of this.open) server.disconnect();
    this.open.clear();
  }
}
