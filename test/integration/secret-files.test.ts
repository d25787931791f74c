import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createClient } from '#libs/client';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { ended } from '../support/executions';
import { descendantsOf } from '../support/proc';
import { removeFolder } from '../support/remove-folder';
import { eventually } from '../support/wait';

const BELAY = resolve(__dirname, '../../dist/programs/belay.js');
const TOKEN = 'a-token-that-only-a-file-holds';
const PASSWORD = 'a-password-that-only-a-file-holds';
/** Root reads every process; walls.test.ts shows that another user cannot read the closed ones. */
const isRoot = process.getuid?.() === 0;

jest.setTimeout(120_000);

let server: ThrowawayServer;
let dir: string;
let children: { child: ChildProcess; text: () => string; exited: Promise<number | null> }[];
beforeAll(async () => {
  const args = ['--user', 'belay', 'on', `>${PASSWORD}`, '~*', '&*', '+@all'];
  server = await startThrowawayServer({ listen: 'tcp', args });
}, 300_000);
afterAll(async () => server.stop());
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'belay-secrets-'));
  children = [];
});
afterEach(async () => {
  for (const { child } of children) child.kill('SIGKILL');
  await Promise.all(children.map(async ({ exited }) => exited));
  // The guardian of a killed worker still writes its proof there, and ends by itself.
  await removeFolder(dir);
});

const secret = (name: string, text: string, mode = 0o600): string => {
  const path = join(dir, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
};
const address = (): string => server.url.replace('redis://', `redis://belay:${PASSWORD}@`);

function start(command: string, env: NodeJS.ProcessEnv): (typeof children)[number] & { pid: number } {
  const child = spawn(process.execPath, [BELAY, command], {
    cwd: dir,
    env: {
      PATH: `${join(dir, 'bin')}:${process.env['PATH']}`,
      BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'],
      BELAY_HTTP_PORT: '0',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const exited = new Promise<number | null>((done) => child.once('exit', done));
  const one = { child, text: () => said, exited };
  children.push(one);
  return { ...one, pid: child.pid ?? 0 };
}

const says = async (one: { text: () => string }, words: RegExp): Promise<string> => {
  await eventually(() => words.test(one.text()), String(words)).catch((error: Error) => {
    throw new Error(`${error.message}; it said:\n${one.text()}`);
  });
  return words.exec(one.text())?.[1] ?? '';
};

/** The text of every file below a directory. */
const filesBelow = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  );

it('R66 a fleet whose secrets are in files shows them in no environment, argument, log or file of its own', async () => {
  const env = {
    BELAY_TOKEN_FILE: secret('token', `${TOKEN}\n`),
    BELAY_VALKEY_URL_FILE: secret('address', `${address()}\n`),
    BELAY_LOG_LEVEL: 'debug',
    BELAY_STOP_TIMEOUT_MS: '500',
  };
  // A program that a worker runs keeps the environment that it was given.
  mkdirSync(join(dir, 'bin'));
  const mkfifo = '#!/bin/sh\nenv >>"$BELAY_DATA_DIR/env-of-mkfifo"\nexec /usr/bin/mkfifo "$@"\n';
  writeFileSync(join(dir, 'bin', 'mkfifo'), mkfifo, { mode: 0o755 });
  const orchestrator = start('orchestrator', { ...env, BELAY_DATA_DIR: join(dir, 'one') });
  const url = await says(orchestrator, /(http:\/\/127\.0\.0\.1:\d+)/);
  const worker = start('worker', { ...env, BELAY_DATA_DIR: join(dir, 'two') });
  await says(worker, /"running"/);
  const client = createClient({ url, token: TOKEN });
  const { execution } = await client.createExecution({
    name: 'tells',
    nodes: [
      { id: 'tells', run: { command: ['env'] } },
      { id: 'stays', dependsOn: ['tells'], run: { command: ['sleep', '60'] } },
    ],
  });
  const stays = async (): Promise<boolean> => {
    const { items } = await client.agents({ executionId: execution.id, state: ['running'] });
    return items.some(({ nodeId }) => nodeId === 'stays');
  };
  await eventually(stays, 'the agent that stays');
  const pids = [orchestrator.pid, worker.pid].flatMap((pid) => [pid, ...descendantsOf(pid)]);
  // Orchestrator, worker, guardian, and an agent.
  expect(pids.length).toBeGreaterThanOrEqual(4);
  const seen = new Map(pids.map((pid) => [`arguments of ${pid}`, commandLine(pid)]));
  if (isRoot)
    for (const pid of pids) seen.set(`environment of ${commandLine(pid)}`, read(`/proc/${pid}/environ`));
  await client.kill({ scope: { type: 'execution', executionId: execution.id } });
  await ended(client, execution.id);
  seen.set('words of the orchestrator', orchestrator.text());
  seen.set('words of the worker', worker.text());
  for (const path of [...filesBelow(join(dir, 'one')), ...filesBelow(join(dir, 'two'))])
    seen.set(path, read(path));
  const holders = [...seen].filter(([, text]) => text.includes(TOKEN) || text.includes(PASSWORD));
  expect(holders.map(([where]) => where)).toEqual([]);
  expect([...seen.values()].every((text) => text === '')).toBe(false);
});

describe.each(['orchestrator', 'worker'])('R66 the command %s does not start', (command) => {
  const good = (): NodeJS.ProcessEnv => ({
    BELAY_DATA_DIR: join(dir, 'data'),
    BELAY_TOKEN_FILE: secret('token', TOKEN),
    BELAY_VALKEY_URL_FILE: secret('address', address()),
  });

  const cases: [string, () => NodeJS.ProcessEnv, RegExp][] = [
    [
      'with a file that others may read',
      () => ({ BELAY_VALKEY_URL_FILE: secret('open', address(), 0o644) }),
      /BELAY_VALKEY_URL_FILE .*open is open to others: chmod 600 \S+open\./,
    ],
    [
      'with a file that is not there',
      () => ({ BELAY_TOKEN_FILE: join(dir, 'absent') }),
      /BELAY_TOKEN_FILE .*absent is not there: write the secret into it, or unset BELAY_TOKEN_FILE\./,
    ],
    [
      'with an empty file',
      () => ({ BELAY_TOKEN_FILE: secret('empty', '\n') }),
      /BELAY_TOKEN_FILE .*empty is empty: write the secret into it\./,
    ],
    [
      'with a directory',
      () => (mkdirSync(join(dir, 'folder')), { BELAY_TOKEN_FILE: join(dir, 'folder') }),
      /BELAY_TOKEN_FILE .*folder is not a file: name the file with the secret\./,
    ],
    [
      'with a FIFO, which it does not wait for',
      () => (spawnSync('mkfifo', ['-m', '600', join(dir, 'fifo')]), { BELAY_TOKEN_FILE: join(dir, 'fifo') }),
      /BELAY_TOKEN_FILE .*fifo is not a file: name the file with the secret\./,
    ],
    ...((isRoot
      ? [
          [
            'with a file of another user',
            () => {
              const path = secret('foreign', TOKEN);
              chownSync(path, 12_345, 12_345);
              return { BELAY_TOKEN_FILE: path };
            },
            /BELAY_TOKEN_FILE .*foreign is another user’s: chown 0 \S+foreign\./,
          ],
        ]
      : []) as [string, () => NodeJS.ProcessEnv, RegExp][]),
  ];
  it.each(cases)('%s, and gives advice', async (_what, env, words) => {
    const one = start(command, { ...good(), ...env() });
    await eventually(() => one.child.exitCode !== null, 'its end', 30_000);
    expect(one.child.exitCode).not.toBe(0);
    expect(one.text()).toMatch(words);
    expect(one.text()).not.toMatch(new RegExp(`${TOKEN}|${PASSWORD}`));
    expect(existsSync(join(dir, 'data', 'valkey'))).toBe(false);
  });
});

const commandLine = (pid: number): string => read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
