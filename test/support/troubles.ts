import { mkdirSync, rmdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { ThrowawayServer } from '#libs/local-server';
import { Redis } from 'ioredis';
import type { Link } from '../faults/link';
import { until } from './wait';

/** A port without a listener: a server that must replicate from it keeps its data and never gets any. */
const NOBODY = ['127.0.0.1', '1'] as const;
const PATIENCE_MS = 60_000;

/** The place of a trouble: a server and, for a trouble of the network, a link in front of it. */
export interface Site {
  readonly server: ThrowawayServer;
  /** In front of the server, for a trouble of the network. */
  readonly link?: Link;
  /** A connection of the operator's, opened before the trouble. */
  readonly operator: Redis;
}

/** One way in which a real server fails. The function that `begin` returns ends it, as the server's operator would. */
export interface Trouble {
  readonly name: string;
  /** More arguments for the server. */
  readonly args?: readonly string[];
  readonly appendonly?: boolean;
  readonly linked?: boolean;
  readonly begin: (site: Site) => Promise<() => Promise<void>>;
  /** The error that a plain client gets meanwhile; absent where it gets none, or everything works slowly. */
  readonly says?: RegExp;
  /** The command that shows the error; by default a write. */
  readonly asked?: string;
  /** The server carries out commands, only late. */
  readonly obeys?: true;
}

/** A connection that fails at once and never reconnects by itself. */
export async function operatorOf(server: ThrowawayServer): Promise<Redis> {
  const redis = new Redis({
    path: server.socketPath ?? '',
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
    maxRetriesPerRequest: 0,
  });
  redis.on('error', () => undefined);
  await redis.connect();
  return redis;
}

/** The server's answer to a new client that sends this command and nothing else. */
export async function errorMessage(server: ThrowawayServer, command = 'SET words 1'): Promise<string> {
  // A server that refuses connections speaks first. Bytes that reach it too late break the connection, and Node then drops its
  // message. So each try listens a little longer before it sends.
  for (let tries = 0; ; tries++) {
    const text = await answerOf(server, `${command}\r\nQUIT\r\n`, tries * LISTEN_MS);
    if (text !== '' || tries === 20) return text.replace(/^[-+]/, '');
  }
}

const LISTEN_MS = 20;

/** All output until the server closes: after it has answered everything, or at once. */
function answerOf(server: ThrowawayServer, words: string, listenMs: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(server.socketPath ?? '');
    socket.setEncoding('utf8').setTimeout(PATIENCE_MS, () => socket.destroy());
    socket.on('error', () => undefined);
    socket.on('data', (chunk: string) => (text += chunk));
    const speaking = setTimeout(() => socket.write(words), listenMs);
    socket.once('close', () => {
      clearTimeout(speaking);
      resolve(text);
    });
  });
}

const setting =
  (name: string, bad: string, good: string) =>
  async ({ operator }: Site): Promise<() => Promise<void>> => {
    await operator.config('SET', name, bad);
    return async () => void (await operator.config('SET', name, good));
  };

/** The server's primary is gone and it replicates from nothing that answers; its data stays. */
export async function demote({ operator }: Site): Promise<() => Promise<void>> {
  await operator.replicaof(...NOBODY);
  return async () => void (await operator.replicaof('NO', 'ONE'));
}

/** A foreign script that does not end. */
async function occupy({ operator, server }: Site): Promise<() => Promise<void>> {
  const other = await operatorOf(server);
  const running = other.eval('while true do end', 0).catch(() => undefined);
  await until(
    async () =>
      operator.ping().then(
        () => false,
        (error: unknown) => (error as Error).message.startsWith('BUSY'),
      ),
    'BUSY',
  );
  return async () => {
    // An operator's act; Belay never ends a script that may be foreign.
    await operator.script('KILL');
    await running;
    other.disconnect();
  };
}

/** Snapshots fail: a folder is in the place of the file. */
async function breakSnapshots({ operator, server }: Site): Promise<() => Promise<void>> {
  const place = join(server.dir, 'dump.rdb');
  const status = async (): Promise<string> =>
    /rdb_last_bgsave_status:(\w+)/.exec(await operator.info('persistence'))?.[1] ?? '';
  mkdirSync(place);
  await operator.config('SET', 'save', '1000000 1');
  await operator.bgsave();
  await until(async () => (await status()) === 'err', 'the failure of a snapshot');
  return async () => {
    rmdirSync(place);
    await operator.bgsave();
    await until(async () => (await status()) === 'ok', 'a snapshot');
  };
}

/** Refuses clients: all but the operator are disconnected, and cannot connect again. */
async function closeDoors({ operator }: Site): Promise<() => Promise<void>> {
  const [, most = ''] = await operator.config('GET', 'maxclients');
  await operator.config('SET', 'maxclients', '1');
  for (const kind of ['normal', 'pubsub'])
    await operator.call('CLIENT', 'KILL', 'TYPE', kind, 'SKIPME', 'yes');
  return async () => void (await operator.config('SET', 'maxclients', most));
}

/** Commands of the data set that loads slowly. */
const HEAVY = 150_000;

/** Kills the server, and starts it on a file that loads slowly: `--key-load-delay` delays each command. */
async function reload({ operator, server }: Site): Promise<() => Promise<void>> {
  const batch = 10_000;
  for (let i = 0; i < HEAVY; i += batch) {
    const pipeline = operator.pipeline();
    for (let j = i; j < i + batch; j++) pipeline.set(`ballast:${j}`, '1');
    await pipeline.exec();
  }
  await server.kill9();
  const loaded = server.restart();
  loaded.catch(() => undefined);
  await until(async () => (await errorMessage(server)).startsWith('LOADING'), 'LOADING');
  return async () => {
    const hand = await operatorOf(server);
    await hand.config('SET', 'key-load-delay', '0');
    hand.disconnect();
    await loaded;
  };
}

/** Suspends the server with its connections open. */
async function freeze({ server }: Site): Promise<() => Promise<void>> {
  process.kill(server.pid, 'SIGSTOP');
  return async () => void process.kill(server.pid, 'SIGCONT');
}

/** Every message takes this long, each way. Milliseconds. */
const SLOW_MS = 400;

export const TROUBLES: readonly Trouble[] = [
  { name: 'READONLY', begin: demote, says: /^READONLY/ },
  {
    name: 'MASTERDOWN',
    args: ['--replica-serve-stale-data', 'no'],
    begin: demote,
    says: /^MASTERDOWN/,
    asked: 'GET words',
  },
  {
    name: 'LOADING',
    args: ['--key-load-delay', '200'],
    appendonly: true,
    begin: reload,
    says: /^LOADING/,
  },
  { name: 'BUSY', args: ['--busy-reply-threshold', '100'], begin: occupy, says: /^BUSY/ },
  { name: 'OOM', begin: setting('maxmemory', '1', '0'), says: /^OOM/ },
  { name: 'NOREPLICAS', begin: setting('min-replicas-to-write', '1', '0'), says: /^NOREPLICAS/ },
  { name: 'MISCONF', begin: breakSnapshots, says: /^MISCONF/ },
  { name: 'maxclients', begin: closeDoors, says: /max number of clients/ },
  { name: 'a server that hangs', begin: freeze },
  {
    name: 'a slow server',
    linked: true,
    begin: async ({ link }) => {
      link?.delay(SLOW_MS);
      return async () => link?.heal();
    },
    obeys: true,
  },
];
