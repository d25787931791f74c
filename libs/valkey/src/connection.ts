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
 * `state`: scripts and reads, calls fail fast. `subscriber`: pub/sub, never anything else. `blocking`: BullMQ and
 * blocking reads, which wait while the server is away.
 */
export type ConnectionRole = 'state' | 'subscriber' | 'blocking';

/** One connection, whatever the mode. On a Cluster a command goes to the primary of its key's slot. */
export type Server = Redis | Cluster;

const ROLE_OPTIONS: Record<ConnectionRole, RedisOptions> = {
  // A resent command may run twice; scripts can be repeated, but we decide when (docs/adr/0003).
  // A server that hangs, or a way to it that is gone without a word, is left after that silence: the call may be made
  // again, and a new connection looks the name up anew.
  state: { maxRetriesPerRequest: 0, enableOfflineQueue: false, socketTimeout: 5_000 },
  subscriber: { maxRetriesPerRequest: null, socketTimeout: 5_000 },
  // Longer than BullMQ blocks (10 s).
  blocking: { maxRetriesPerRequest: null, socketTimeout: 15_000 },
};

const CONNECT_TIMEOUT_MS = 5_000;
const SENTINEL_ANSWER_MS = 3_000;
/** A server that loads its data says how long it may yet take, and is often ready long before. Milliseconds. */
const LOADING_LOOK_MS = 500;
/** Between two reconnects because a server takes no writes. Milliseconds. */
const DEMOTED_LOOK_MS = 2_000;
/** A primary that vanished without a word is found out at the next look at the slots. Milliseconds. */
const SLOTS_LOOK_MS = 2_000;
/** Times 100 ms: how long BullMQ's calls are tried again while a shard of the Cluster has no primary. */
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
    // One that hangs with its connections open is left for the next.
    sentinelCommandTimeout: SENTINEL_ANSWER_MS,
    // A primary that hangs says nothing when it is replaced: the sentinels do.
    failoverDetector: true,
    // One that was demoted under our feet.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  };
}

/** A name, or a balancer, may lead to another server by now than the one that became a replica under our feet. */
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
    // A call whose reply was lost is not sent again behind our back (docs/adr/0003).
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

/** ioredis queues calls while no node of a Cluster is known; ours fail fast there too. */
class StateCluster extends Cluster {
  override sendCommand(...args: Parameters<Cluster['sendCommand']>): unknown {
    const [command] = args;
    // The commands by which it discovers the Cluster.
    if (this.status === 'ready' || this.status === 'wait' || command.name === 'cluster')
      return super.sendCommand(...args);
    command.reject(new Error('Connection is closed.'));
    return command.promise;
  }
}

/** The error of a Cluster's node, where there is one: the Cluster's own error hides a wrong password. */
function causeOf(error: Error & { lastNodeError?: Error }): string {
  return error.lastNodeError?.message ?? error.message;
}

/**
 * A connection that is told to disconnect between two tries only forgets the next one: it never ends, and what is waiting
 * for an answer waits for ever. One more try, cancelled before it begins, ends it. ioredis also gives the socket that the last
 * try lost two seconds to close, by a timer that nothing clears: a socket that has closed is taken from it first.
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

  /** Those that are open or being opened. */
  get count(): number {
    return this.open.size;
  }

  /** Times that one was lost and opened again, since the start. On a Cluster: that all of its nodes were gone. */
  get reconnects(): number {
    return this.lost;
  }

  get mode(): ValkeyAddress['mode'] {
    return this.address.mode;
  }

  /** A new connection of that role; it connects in the background. */
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

  /** Ours to close, with every copy: BullMQ waits on one, and forgets it when the server is away. */
  private keep<T extends Server>(server: T): T {
    this.open.add(server);
    // BullMQ ends and opens again the one that it blocks on.
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
   * Connects it here. A connection that BullMQ connects itself is given up for good when its first try fails: the consumer
   * that waits for jobs on it hears of none for as long as it lives.
   */
  private connecting<T extends Server>(server: T): T {
    server.connect().catch(() => undefined);
    return server;
  }

  private make(role: ConnectionRole): Server {
    const { address } = this;
    // Pub/sub of a Cluster is heard at any node, and one plain connection tells when it was cut.
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
