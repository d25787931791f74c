import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { LocalServerLook } from '#libs/local-server';
import type { DataDir } from '../session/data-dir';
import { fail, ok, warn, type Check } from './check';

const PROGRAMS = ['valkey-server', 'redis-server'] as const;
const VERSION_MS = 5_000;
/** At most this many slots are named. */
const MOST_SLOTS = 10;

/** Checks the state server: the one at BELAY_VALKEY_URL, or the one that `up` would start. Nothing is started or fetched. */
export async function checkServer(env: NodeJS.ProcessEnv, dataDir: DataDir): Promise<Check> {
  const given = env['BELAY_VALKEY_URL'] ?? '';
  return given === '' ? await checkLocal(env, dataDir) : await checkGiven(env, given);
}

async function checkGiven(env: NodeJS.ProcessEnv, given: string): Promise<Check> {
  // With a URL `ensureServer` starts nothing.
  const { ensureServer, withoutPassword } = await import('#libs/local-server');
  try {
    const { version, moving } = await ensureServer({ env });
    const where = `${version.name} ${version.version} at ${withoutPassword(given)}`;
    return moving === undefined ? ok('state server', where) : describeMoving(where, moving);
  } catch (error) {
    return fail('state server', (error as Error).message);
  }
}

/** Slots that move: calls for their keys wait. */
export function describeMoving(where: string, slots: readonly number[]): Check {
  const shown = slots.slice(0, MOST_SLOTS).join(', ');
  const more = slots.length > MOST_SLOTS ? ` and ${slots.length - MOST_SLOTS} more` : '';
  return warn(
    'state server',
    `${where}; moving to another node: slot ${shown}${more}`,
    'calls for keys of these slots wait until the move ends; no slot may move for longer than 5 s while agents run',
  );
}

async function checkLocal(env: NodeJS.ProcessEnv, dataDir: DataDir): Promise<Check> {
  const { lookAtLocalServer } = await import('#libs/local-server');
  return (
    describeLook(await lookAtLocalServer(dataDir.path), dataDir.path) ?? (await checkPrograms(env, dataDir))
  );
}

/** The server that was started on this data dir; undefined where none runs. */
export function describeLook(look: LocalServerLook, dataDir = ''): Check | undefined {
  switch (look.state) {
    case 'none':
      return undefined;
    case 'answers':
      return ok(
        'state server',
        `${look.version.name} ${look.version.version} answers at ${look.url} (pid ${look.pid})`,
      );
    case 'gone':
    case 'silent': {
      const refused = describeRefusal(look, join(dataDir, 'valkey'));
      if (refused !== undefined) return refused;
      const text = `the local server (pid ${look.pid}) does not answer at ${look.url}: ${look.why}`;
      const owner = look.ownerPid === undefined ? undefined : `process ${look.ownerPid}`;
      if (owner === undefined) return fail('state server', text, `end pid ${look.pid}, then: belay up`);
      return fail(
        'state server',
        text,
        look.state === 'gone'
          ? `${owner} starts it again; if it does not: end that process with Ctrl-C, then belay up`
          : `look whether pid ${look.pid} is stopped or hangs; if you kill it, ${owner} starts it again`,
      );
    }
  }
}

/** The server runs, and reports itself that it cannot write: nothing hangs. */
function describeRefusal(
  { url, pid, why }: { url: string; pid: number; why: string },
  folder: string,
): Check | undefined {
  const words = /MISCONF .*/s.exec(why)?.[0];
  if (words === undefined) return undefined;
  const text = `the local server (pid ${pid}) takes no writes at ${url}: ${words}`;
  return fail(
    'state server',
    text,
    /no space left/i.test(words)
      ? `free space on the disk of ${folder}: the server goes on by itself`
      : `look at the disk of ${folder} and at the server's log: it goes on by itself once it can write`,
  );
}

/** Finds the server that `belay up` would start: none runs here now. */
async function checkPrograms(env: NodeJS.ProcessEnv, dataDir: DataDir): Promise<Check> {
  const none = 'none runs here; belay up starts';
  for (const program of PROGRAMS) {
    for (const directory of (env['PATH'] ?? '').split(delimiter)) {
      const path = join(directory, program);
      if (directory === '' || !existsSync(path)) continue;
      const version = await readVersion(path);
      if (version !== undefined) return ok('state server', `${none} ${program} ${version} at ${path}`);
    }
  }
  if (existsSync(join(dataDir.path, 'server')))
    return ok('state server', `${none} the unpacked one in ${join(dataDir.path, 'server')}`);
  return warn(
    'state server',
    'neither valkey-server nor redis-server is on PATH',
    'belay up fetches one where it can; else install it, or set BELAY_VALKEY_URL',
  );
}

async function readVersion(path: string): Promise<string | undefined> {
  return await new Promise((resolve) => {
    execFile(path, ['--version'], { timeout: VERSION_MS }, (error, stdout) => {
      resolve(error === null ? /v=(\d+\.\d+\.\d+)/.exec(stdout)?.[1] : undefined);
    });
  });
}
