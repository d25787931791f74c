import { accessSync, constants, existsSync, lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir, tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * The directory of the unpacked server for all test runs and benchmarks of one checkout: `.belay/server` of the repository. A
 * user who cannot write there gets a directory of their own.
 */
export function sharedCacheDirectory(): string {
  const repository = repositoryRoot();
  const places = [
    ...(repository === undefined ? [] : [join(repository, '.belay', 'server')]),
    join(homedir(), '.cache', 'belay', 'server'),
    join(tmpdir(), `belay-${userInfo().uid}`),
  ];
  return places.find(isOursToWrite) ?? join(tmpdir(), `belay-${userInfo().uid}`);
}

/** Programs run from this directory, so it must belong to this user. */
function isOursToWrite(directory: string): boolean {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    accessSync(directory, constants.W_OK);
    const stat = lstatSync(directory);
    return stat.isDirectory() && stat.uid === userInfo().uid;
  } catch {
    return false;
  }
}

/** Looks upwards from this file for the checkout. An installed package has no sources, and Belay must not write to it. */
function repositoryRoot(): string | undefined {
  for (let directory = __dirname; directory !== dirname(directory); directory = dirname(directory)) {
    const manifest = join(directory, 'package.json');
    if (!existsSync(manifest)) continue;
    const { name } = JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string };
    if (name === 'belayd') return existsSync(join(directory, 'libs/valkey/src')) ? directory : undefined;
  }
  return undefined;
}
