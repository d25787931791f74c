import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isNewEnough, readBinaryVersion } from './server-version';
import type { ServerBinary } from './types';

const UNPACKED = 'unpacked';

/** Where packages are unpacked to, below the cache directory. */
export function unpackedRoot(cacheDir: string): string {
  return join(cacheDir, UNPACKED);
}

/** A record of the unpacked files. It is written last, so a directory without it is no server. */
interface Manifest {
  readonly program: string;
  readonly libraries: readonly string[];
}

/** An earlier unpacked copy that still runs. */
export async function findUnpacked(cacheDir: string, tried: string[]): Promise<ServerBinary | undefined> {
  const root = unpackedRoot(cacheDir);
  const manifest = readManifest(root);
  if (manifest === undefined) {
    tried.push(`no earlier unpacked server in ${cacheDir}`);
    return undefined;
  }
  const found = await checkUnpacked(root, manifest, 'unpacked');
  if (typeof found !== 'string') return found;
  tried.push(
    `the unpacked server in ${root} does not run (${found}); remove that directory to have it made again`,
  );
  return undefined;
}

/** Finds the server in a directory of freshly unpacked packages, and stores what it needs. */
export async function describeUnpacked(root: string): Promise<ServerBinary | string> {
  const program = ['usr/bin/valkey-server', 'usr/bin/redis-server'].find((path) =>
    existsSync(join(root, path)),
  );
  if (program === undefined) return 'the packages contain no server program';
  const manifest: Manifest = { program, libraries: libraryDirectories(root) };
  const found = await checkUnpacked(root, manifest, 'packages');
  if (typeof found !== 'string') writeFileSync(join(root, 'manifest.json'), `${JSON.stringify(manifest)}\n`);
  return found;
}

async function checkUnpacked(
  root: string,
  manifest: Manifest,
  source: 'unpacked' | 'packages',
): Promise<ServerBinary | string> {
  const path = join(root, manifest.program);
  const libraryPath = manifest.libraries.map((directory) => join(root, directory)).join(':');
  const version = await readBinaryVersion(path, libraryPath === '' ? undefined : libraryPath);
  if ('failure' in version) return version.failure;
  if (!isNewEnough(version.version)) return `${version.name} ${version.version} is too old`;
  return { path, version, source, ...(libraryPath === '' ? {} : { libraryPath }) };
}

/** Every directory of shared libraries, relative to `root`. */
function libraryDirectories(root: string): string[] {
  const found = new Set<string>();
  for (const top of ['lib', 'usr/lib']) {
    if (!existsSync(join(root, top))) continue;
    for (const name of readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })) {
      if (/\.so(\.|$)/.test(name)) found.add(dirname(join(top, name)));
    }
  }
  return [...found].sort();
}

function readManifest(root: string): Manifest | undefined {
  try {
    return JSON.parse(readFileSync(join(root, 'manifest.json'), 'utf8')) as Manifest;
  } catch {
    return undefined;
  }
}
