import { accessSync, constants, existsSync, lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir, tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * Where an unpacked server is kept for all test runs and benchmarks of one checkout: `.belay/server` of the
 * repository, and for a user who cannot write there a directory of that user's own.
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

/** A program is run from there: a directory that belongs to somebody else will not do. */
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

/** Up from this file to the checkout it lies in. An installed package is none: it has no sources, and is not ours to write to. */
function repositoryRoot(): string | undefined {
  for (let directory = __dirname; directory !== dirname(directory); directory = dirname(directory)) {
    const manifest = join(directory, 'package.json');
    if (!existsSync(manifest)) continue;
    const { name } = JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string };
    if (name === 'belayd') return existsSync(join(directory, 'libs/valkey/src')) ? directory : undefined;
  }
  return undefined;
}
