import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import Redis from 'ioredis';
import {
  ensureServer,
  resolveServerBinary,
  startThrowawayServer,
  type ServerBinary,
} from '#libs/local-server';
import { useServer } from '../support/server';
import { eventually } from '../support/wait';

const REPOSITORY = join(__dirname, '..', '..');
const BUILT = join(REPOSITORY, 'dist', 'libs', 'local-server', 'src');
/** No server is found on such a PATH. */
const BARE = { ...process.env, BELAY_VALKEY_URL: '', BELAY_TEST_SERVER: '', PATH: '/nonexistent' };

// Real downloads and real ends of processes, on machines that may be busy.

let scratch = '';
/** A program named `valkey-server`: the server of the other tests, unpacked or not. */
let program = '';
let binary: ServerBinary;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'belay-test-'));
  chmodSync(scratch, 0o755);
  binary = await resolveServerBinary();
  program = script('real/valkey-server', [
    binary.libraryPath === undefined ? '' : `export LD_LIBRARY_PATH='${binary.libraryPath}'`,
    `exec '${binary.path}' "$@"`,
  ]);
}, 300_000);

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('where the server comes from', () => {
  it('takes the first one on PATH that is new enough, and names those that it skipped', async () => {
    script('old/valkey-server', ['echo "Valkey server v=6.2.6 sha=00000000:0 malloc=libc bits=64"']);
    script('broken/valkey-server', ['echo "no such library" >&2', 'exit 127']);
    const lines: string[] = [];
    const path = ['old', 'broken', 'real'].map((name) => join(scratch, name)).join(':');
    const server = await ensureServer({
      dataDir: join(scratch, 'path'),
      env: { ...BARE, PATH: path },
      report: (line) => lines.push(line),
    });
    try {
      expect(server.source).toBe('path');
      expect(server.version).toEqual(binary.version);
      expect(lines[0]).toBe(
        `skipped ${join(scratch, 'old', 'valkey-server')}: valkey 6.2.6 is older than 7.0`,
      );
      expect(lines[1]).toBe(
        `skipped ${join(scratch, 'broken', 'valkey-server')}: it does not run (no such library)`,
      );
    } finally {
      await server.stop();
    }
  });

  it('unpacks the distribution’s packages into its data directory, and the next time takes that copy', async () => {
    const dataDir = join(scratch, 'fresh');
    const first = await ensureServer({ dataDir, env: BARE });
    expect(first.source).toBe('packages');
    await first.stop();
    expect(readdirSync(join(dataDir, 'server'))).toEqual(['unpacked']);
    const second = await ensureServer({ dataDir, env: BARE });
    expect(second.source).toBe('unpacked');
    expect(second.version).toEqual(first.version);
    await second.stop();
  });

  it('does so as an ordinary user whose home is a temporary directory', async () => {
    const home = join(scratch, 'home');
    mkdirSync(home);
    // The user must be able to read the program, wherever this checkout is.
    const copy = join(scratch, 'copy');
    for (const part of [
      'dist/libs/local-server/src',
      'dist/libs/contracts',
      'node_modules/zod',
      'package.json',
    ]) {
      cpSync(join(REPOSITORY, part), join(copy, part), { recursive: true });
    }
    const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
    if (user.uid !== undefined) chownSync(home, user.uid, user.gid);
    const owner = startOwner(
      `ensureServer({ dataDir: ${JSON.stringify(join(home, '.belay'))} })`,
      { ...BARE, HOME: home },
      { built: join(copy, 'dist/libs/local-server/src'), ...user },
    );
    const server = await owner.ready;
    expect(server.source).toBe('packages');
    if (user.uid !== undefined) expect(statSync(`/proc/${server.pid}`).uid).toBe(user.uid);
    expect(statSync(join(home, '.belay', 'valkey')).mode & 0o777).toBe(0o700);
    await owner.end();
    await untilGone(server);
  });

  it('runs the program of BELAY_TEST_SERVER, in both ways of starting', async () => {
    const env = { ...BARE, BELAY_TEST_SERVER: program };
    const ensured = await ensureServer({ dataDir: join(scratch, 'named'), env });
    const thrown = await startThrowawayServer({ env });
    expect([ensured.source, thrown.source]).toEqual(['test-server', 'test-server']);
    await Promise.all([ensured.stop(), thrown.stop()]);
  });

  it('refuses a BELAY_TEST_SERVER that cannot be used instead of taking another', async () => {
    const old = script('old/server', ['echo "Redis server v=6.2.6 sha=0"']);
    await expect(startThrowawayServer({ env: { ...BARE, BELAY_TEST_SERVER: old } })).rejects.toMatchObject({
      code: 'SERVER_UNREACHABLE',
      message: `BELAY_TEST_SERVER=${old} is redis 6.2.6; Belay needs 7.0 or later.`,
    });
    const missing = join(scratch, 'missing');
    await expect(
      startThrowawayServer({ env: { ...BARE, BELAY_TEST_SERVER: missing } }),
    ).rejects.toMatchObject({
      message: `BELAY_TEST_SERVER=${missing} cannot be used: not found.`,
    });
  });

  it('lists every way it tried, one line each, when there is none', async () => {
    const cacheDir = join(scratch, 'a-file');
    writeFileSync(cacheDir, '');
    const error = await failureOf(ensureServer({ dataDir: join(scratch, 'none'), cacheDir, env: BARE }));
    expect(error).toMatchObject({ code: 'SERVER_UNREACHABLE' });
    const lines = error.message.split('\n');
    expect(lines[0]).toBe('No Valkey or Redis server (7.0 or later) could be found or started. Tried:');
    expect(lines[1]).toBe('  - no valkey-server or redis-server on PATH');
    expect(lines[2]).toBe(`  - no earlier unpacked server in ${cacheDir}`);
    expect(lines[3]).toMatch(/^ {2}- (packages of|no )/);
    expect(lines[4]).toBe('  - Docker: not installed');
    expect(lines[5]).toBe('Do one of:');
    expect(lines).toHaveLength(9);
  });
});

describe('BELAY_VALKEY_URL', () => {
  const running = useServer({ listen: 'tcp' });

  it('is used as it is: checked, not started and not stopped', async () => {
    const server = await ensureServer({ env: { BELAY_VALKEY_URL: running.url } });
    expect(server).toMatchObject({ url: running.url, source: 'url', version: binary.version, reused: true });
    await server.stop();
    expect(await command(running.url, 'PING')).toBe('PONG');
  });

  it('fails with one line that names it, without its password, when no server answers', async () => {
    const port = await closedPort();
    const url = `redis://belay:secret@127.0.0.1:${port}/0`;
    const error = await failureOf(ensureServer({ env: { BELAY_VALKEY_URL: url } }));
    expect(error).toMatchObject({ code: 'SERVER_UNREACHABLE' });
    expect(error.message).toBe(
      `BELAY_VALKEY_URL=redis://belay:***@127.0.0.1:${port}/0 cannot be used: connect ECONNREFUSED ` +
        `127.0.0.1:${port}. Start it, correct the URL, or unset it for a local server.`,
    );
  });

  it('says so when it is no URL, and when the login is refused', async () => {
    await expect(ensureServer({ env: { BELAY_VALKEY_URL: 'localhost:6379' } })).rejects.toThrow(
      'BELAY_VALKEY_URL=localhost:6379 is not a redis://, rediss://, valkey://, valkeys://, unix://, redis+sentinel:// or redis+cluster:// URL.',
    );
    const url = running.url.replace('//', '//someone:wrong@');
    await expect(ensureServer({ env: { BELAY_VALKEY_URL: url } })).rejects.toThrow(
      /cannot be used: WRONGPASS/,
    );
  });
});

describe('the server on a data directory', () => {
  it('keeps its data in order: append-only file, no eviction, private directory, no TCP port', async () => {
    const dataDir = join(scratch, 'settings with spaces');
    const server = await ensureServer({ dataDir, env: { ...BARE, BELAY_TEST_SERVER: program } });
    const client = new Redis(server.socketPath ?? '', loginOf(server.url));
    const read = async (name: string): Promise<unknown> => Object.values(await client.config('GET', name))[1];
    try {
      expect(await read('appendonly')).toBe('yes');
      expect(await read('appendfsync')).toBe('everysec');
      expect(await read('maxmemory-policy')).toBe('noeviction');
      expect(await read('port')).toBe('0');
      expect(await read('dir')).toBe(join(dataDir, 'valkey'));
      expect(statSync(join(dataDir, 'valkey')).mode & 0o777).toBe(0o700);
      expect(existsSync(join(dataDir, 'valkey', 'server.log'))).toBe(true);
    } finally {
      client.disconnect();
      await server.stop();
    }
  });

  it('listens on a loopback port when asked', async () => {
    const env = { ...BARE, BELAY_TEST_SERVER: program };
    const server = await ensureServer({ dataDir: join(scratch, 'tcp'), listen: 'tcp', env });
    expect(server.url).toMatch(/^redis:\/\/belay:[\w-]{43}@127\.0\.0\.1:\d+$/);
    expect(await command(server.url, 'PING')).toBe('PONG');
    await server.stop();
  });

  it('works where the path is longer than a socket’s may be', async () => {
    const dataDir = join(scratch, 'long'.repeat(30), 'data');
    const server = await ensureServer({ dataDir, env: { ...BARE, BELAY_TEST_SERVER: program } });
    const socketPath = server.socketPath ?? '';
    expect(Buffer.byteLength(socketPath)).toBeLessThanOrEqual(100);
    expect(statSync(dirname(socketPath)).mode & 0o777).toBe(0o700);
    expect(await command(server.url, 'PING')).toBe('PONG');
    await server.stop();
    expect(existsSync(dirname(socketPath))).toBe(false);
    expect(existsSync(join(dataDir, 'valkey', 'appendonlydir'))).toBe(true);
  });

  it('is one server for two callers; the owner ends it, the other does not', async () => {
    const dataDir = join(scratch, 'shared');
    const env = { ...BARE, BELAY_TEST_SERVER: program };
    const owner = await ensureServer({ dataDir, env });
    const lines: string[] = [];
    const other = await ensureServer({ dataDir, env, report: (line) => lines.push(line) });
    expect(other).toMatchObject({ pid: owner.pid, url: owner.url, reused: true });
    expect(lines).toEqual([`using the server that process ${process.pid} runs on ${dataDir}`]);
    await other.stop();
    await command(owner.url, 'SET', 'kept', 'yes');
    await owner.stop();
    await owner.exited;
    const next = await ensureServer({ dataDir, env });
    expect(next.reused).toBe(false);
    expect(await command(next.url, 'GET', 'kept')).toBe('yes');
    await next.stop();
  });

  it('is one server for processes that start at the same moment', async () => {
    const dataDir = join(scratch, 'race');
    const env = { ...BARE, BELAY_TEST_SERVER: program };
    const owners = [1, 2, 3].map(() =>
      startOwner(`ensureServer({ dataDir: ${JSON.stringify(dataDir)} })`, env),
    );
    const servers = await Promise.all(owners.map((owner) => owner.ready));
    expect(new Set(servers.map((server) => server.pid)).size).toBe(1);
    expect(servers.filter((server) => !server.reused)).toHaveLength(1);
    await Promise.all(owners.map((owner) => owner.end()));
    await untilGone(servers[0]);
  });

  it('ends with an owner that is SIGKILLed, its data flushed, and the next caller finds them', async () => {
    const dataDir = join(scratch, 'orphan');
    const env = { ...BARE, BELAY_TEST_SERVER: program };
    const owner = startOwner(`ensureServer({ dataDir: ${JSON.stringify(dataDir)} })`, env);
    const server = await owner.ready;
    await command(server.url, 'SET', 'last', 'write');
    owner.child.kill('SIGKILL');
    await owner.exited;
    // The server is not awaited on purpose: the next caller must not start one beside a server that is about to end.
    const next = await ensureServer({ dataDir, env });
    expect(alive(server)).toBe(false);
    expect(next.reused).toBe(false);
    expect(await command(next.url, 'GET', 'last')).toBe('write');
    await next.stop();
  });

  it('is ended by the next caller when owner and watcher were both SIGKILLed', async () => {
    const dataDir = join(scratch, 'abandoned');
    const env = { ...BARE, BELAY_TEST_SERVER: program };
    const owner = startOwner(`ensureServer({ dataDir: ${JSON.stringify(dataDir)} })`, env);
    const server = await owner.ready;
    const watcher = parentOf(server.pid);
    process.kill(watcher, 'SIGKILL');
    owner.child.kill('SIGKILL');
    await owner.exited;
    expect(alive(server)).toBe(true);
    const next = await ensureServer({ dataDir, env });
    expect(alive(server)).toBe(false);
    expect(next.pid).not.toBe(server.pid);
    await next.stop();
  });
});

describe('the password of a server on a data directory', () => {
  const env = (): NodeJS.ProcessEnv => ({ ...BARE, BELAY_TEST_SERVER: program });
  /** The answer to a client without the password. */
  const refusalOf = async (options: { path: string } | { port: number }): Promise<string> => {
    const socket = connect(options);
    try {
      socket.write('GET any\r\n');
      const [answer] = (await once(socket, 'data')) as [Buffer];
      return answer.toString().trim();
    } finally {
      socket.destroy();
    }
  };

  it('is required of every client, over a socket and over a port', async () => {
    const server = await ensureServer({ dataDir: join(scratch, 'asks'), env: env() });
    expect(await refusalOf({ path: server.socketPath ?? '' })).toBe('-NOAUTH Authentication required.');
    expect(await command(server.url, 'PING')).toBe('PONG');
    expect(await command(server.url, 'ACL', 'WHOAMI')).toBe('belay');
    await server.stop();
    const tcp = await ensureServer({ dataDir: join(scratch, 'asks-tcp'), listen: 'tcp', env: env() });
    expect(await refusalOf({ port: Number(new URL(tcp.url).port) })).toBe('-NOAUTH Authentication required.');
    await tcp.stop();
  });

  it('is in files of its owner alone, and in no argument, environment, log or line of progress', async () => {
    const dataDir = join(scratch, 'kept');
    const lines: string[] = [];
    const server = await ensureServer({ dataDir, env: env(), report: (line) => lines.push(line) });
    const { password } = loginOf(server.url);
    const dir = join(dataDir, 'valkey');
    const holders = readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => readFileSync(path, 'latin1').includes(password));
    expect(holders.map((path) => path.slice(dir.length + 1)).toSorted(byName)).toEqual([
      'password',
      'server.json',
      'url',
    ]);
    for (const path of [...holders, join(dir, 'users.acl')]) expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(server.urlFile ?? '', 'utf8')).toBe(`${server.url}\n`);
    for (const pid of [server.pid ?? 0, parentOf(server.pid ?? 0)])
      for (const file of ['cmdline', 'environ'])
        expect(readFileSync(`/proc/${pid}/${file}`, 'latin1')).not.toContain(password);
    expect(lines.join('\n')).not.toContain(password);
    await server.stop();
  });

  it('stays the same for the next server, and for one that died, whatever became of its files', async () => {
    const dataDir = join(scratch, 'stays');
    const first = await ensureServer({ dataDir, env: env() });
    await first.stop();
    writeFileSync(join(dataDir, 'valkey', 'users.acl'), 'user default on nopass ~* &* +@all\n');
    const second = await ensureServer({ dataDir, env: env() });
    expect(second.url).toBe(first.url);
    expect(await refusalOf({ path: second.socketPath ?? '' })).toBe('-NOAUTH Authentication required.');
    process.kill(second.pid ?? 0, 'SIGKILL');
    await second.exited;
    // An agent of the same user can do all of this.
    for (const name of ['users.acl', 'password', 'url']) rmSync(join(dataDir, 'valkey', name));
    for (const name of ['users.acl', 'password.new'])
      mkdirSync(join(dataDir, 'valkey', name, 'in-the-way'), { recursive: true });
    await second.revive?.();
    expect(readFileSync(second.urlFile ?? '', 'utf8')).toBe(`${first.url}\n`);
    expect(await command(first.url, 'PING')).toBe('PONG');
    await second.stop();
    // Another user may have read it.
    chmodSync(join(dataDir, 'valkey', 'password'), 0o644);
    const third = await ensureServer({ dataDir, env: env() });
    expect(third.url).not.toBe(first.url);
    await third.stop();
  });

  it('costs no data: the writes of a transaction and a script are there again after a restart', async () => {
    const dataDir = join(scratch, 'replayed');
    const first = await ensureServer({ dataDir, env: env() });
    const client = new Redis({ path: first.socketPath ?? '', ...loginOf(first.url) });
    await client.multi().set('a', '1').set('b', '2').exec();
    await client.eval("redis.call('set', 'c', '3'); redis.call('set', 'd', '4')", 0);
    client.disconnect();
    await first.stop();
    const second = await ensureServer({ dataDir, env: env() });
    expect(await command(second.url, 'MGET', 'a', 'b', 'c', 'd')).toEqual(['1', '2', '3', '4']);
    await second.stop();
  });

  it('is not asked by a server that an older Belay runs, which is used as it is', async () => {
    const dataDir = join(scratch, 'older');
    const owner = await ensureServer({ dataDir, env: env() });
    // As an older release left it: a server without users, and its record.
    await command(owner.url, 'ACL', 'SETUSER', 'default', 'on', 'nopass', '+@all', '~*', '&*');
    const record = join(dataDir, 'valkey', 'server.json');
    const { urlFile: _, ...old } = JSON.parse(readFileSync(record, 'utf8')) as Record<string, unknown>;
    const url = owner.url.replace(/\?.*/, '');
    writeFileSync(record, JSON.stringify({ ...old, url }));
    const other = await ensureServer({ dataDir, env: env() });
    expect(other).toMatchObject({ url, pid: owner.pid, reused: true });
    expect(other.urlFile).toBeUndefined();
    expect(await command(other.url, 'PING')).toBe('PONG');
    await owner.stop();
  });
});

describe('a throw-away server', () => {
  it('is gone with its directory after stop(), and a second stop() changes nothing', async () => {
    const server = await startThrowawayServer();
    const seen = { pid: server.pid, startTime: startTimeOf(server.pid) };
    expect(await command(server.url, 'PING')).toBe('PONG');
    await Promise.all([server.stop(), server.stop()]);
    expect(alive(seen)).toBe(false);
    expect(existsSync(server.dir)).toBe(false);
    await expect(server.restart()).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' });
  });

  it('is gone with its directory when its owner is SIGKILLed', async () => {
    const owner = startOwner('startThrowawayServer({ appendonly: true })', process.env);
    const server = await owner.ready;
    owner.child.kill('SIGKILL');
    await untilGone(server);
    await eventually(() => !existsSync(server.dir ?? ''), 'the end of its directory', 10_000);
    expect(alive(server)).toBe(false);
  });

  it('does not keep its owner running', async () => {
    const owner = startOwner('startThrowawayServer()', process.env, { idle: true });
    const server = await owner.ready;
    await owner.exited;
    await untilGone(server);
    expect(alive(server)).toBe(false);
  });

  it('has its data again after kill9() and restart(), at the same address', async () => {
    const server = await startThrowawayServer({ appendonly: true });
    const before = { pid: server.pid, startTime: startTimeOf(server.pid), url: server.url };
    const client = new Redis(server.socketPath ?? '', { maxRetriesPerRequest: 0 });
    await client.config('SET', 'appendfsync', 'always');
    for (let i = 0; i < 100; i++) await client.rpush('list', String(i));
    client.disconnect();
    await server.kill9();
    expect(alive(before)).toBe(false);
    await server.restart();
    expect(server.url).toBe(before.url);
    expect(server.pid).not.toBe(before.pid);
    expect(await command(server.url, 'LLEN', 'list')).toBe(100);
    await server.stop();
    expect(existsSync(server.dir)).toBe(false);
  });

  it('is stopped also when its watcher was killed', async () => {
    const server = await startThrowawayServer();
    const seen = { pid: server.pid, startTime: startTimeOf(server.pid) };
    process.kill(parentOf(server.pid), 'SIGKILL');
    await server.stop();
    expect(alive(seen)).toBe(false);
    expect(existsSync(server.dir)).toBe(false);
  });

  it('tells the last lines of the server when that ends at once', async () => {
    await expect(startThrowawayServer({ args: ['--no-such-setting', '1'] })).rejects.toMatchObject({
      code: 'SERVER_UNREACHABLE',
      message: expect.stringMatching(
        /ended before it answered\. Its last lines:\n[^]*no-such-setting/,
      ) as string,
    });
  });

  it('does not depend on a listener on port 6379', async () => {
    const busy = createServer();
    await new Promise<void>((resolve) => {
      busy.once('error', () => resolve()); // then the port is busy already
      busy.listen(6379, '127.0.0.1', () => resolve());
    });
    const server = await startThrowawayServer({ listen: 'tcp' });
    expect(await command(server.url, 'PING')).toBe('PONG');
    await server.stop();
    await new Promise((resolve) => busy.close(resolve));
  });
});

interface Seen {
  readonly pid: number;
  readonly startTime: string;
}

interface OwnedServer extends Seen {
  readonly url: string;
  readonly source: string;
  readonly reused: boolean;
  readonly dir?: string;
}

interface Owner {
  readonly child: ChildProcess;
  /** The server that it started, once that answers. */
  readonly ready: Promise<OwnedServer>;
  readonly exited: Promise<void>;
  /** Asks it to stop its server and to end. */
  end(): Promise<void>;
}

/** A process that starts a server from the built library and owns it until its stdin ends. */
function startOwner(
  start: string,
  env: NodeJS.ProcessEnv,
  options: { built?: string; uid?: number; gid?: number; idle?: boolean } = {},
): Owner {
  const source = `
    const { ensureServer, startThrowawayServer } = require(${JSON.stringify(options.built ?? BUILT)});
    ${start}.then((server) => {
      const { url, pid, source, reused, dir } = server;
      console.log(JSON.stringify({ url, pid, source, reused, dir }));
      if (${options.idle === true}) return process.stdin.unref();
      process.stdin.resume().once('end', () => server.stop());
    }, (error) => { console.error(error.message); process.exitCode = 1; });`;
  const { uid, gid } = options;
  const child = spawn(process.execPath, ['-e', source], {
    env,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(uid === undefined || gid === undefined ? {} : { uid, gid }),
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
  });
  const ready = new Promise<OwnedServer>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', (line) => {
      const server = JSON.parse(line) as OwnedServer;
      resolve({ ...server, startTime: startTimeOf(server.pid) });
    });
    child.once('close', () => reject(new Error(`the owner ended: ${errors}`)));
  });
  return {
    child,
    ready,
    exited,
    end: async () => {
      child.stdin.end();
      await exited;
    },
  };
}

async function failureOf(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it was expected to fail');
}

/** Writes an executable shell script below the scratch directory. */
function script(name: string, lines: readonly string[]): string {
  const path = join(scratch, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${lines.join('\n')}\n`, { mode: 0o755 });
  return path;
}

async function command(url: string, name: string, ...args: string[]): Promise<unknown> {
  const client = new Redis(url.replace(/^unix:\/\//, ''), { maxRetriesPerRequest: 0, lazyConnect: true });
  try {
    await client.connect();
    return await client.call(name, ...args);
  } finally {
    client.disconnect();
  }
}

const byName = (a: string, b: string): number => a.localeCompare(b);

function loginOf(url: string): { username: string; password: string } {
  const [, username = '', password = ''] = /\?username=(\w+)&password=([\w-]+)$/.exec(url) ?? [];
  return { username, password };
}

function closedPort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}

function stat(pid: number): string[] {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return line.slice(line.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

function startTimeOf(pid: number): string {
  return stat(pid)[19] ?? 'gone';
}

function parentOf(pid: number): number {
  return Number(execFileSync('ps', ['-o', 'ppid=', '-p', String(pid)], { encoding: 'utf8' }));
}

function alive(seen: Seen | undefined): boolean {
  const field = seen === undefined ? [] : stat(seen.pid);
  return field[0] !== undefined && field[0] !== 'Z' && field[19] === seen?.startTime;
}

async function untilGone(seen: Seen | undefined): Promise<void> {
  await eventually(() => !alive(seen), `the end of process ${seen?.pid}`, 10_000);
}
