import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { BelayError } from '#libs/contracts';
import { findUnpacked, unpackDebianServer } from './debian-packages';
import { isNewEnough, OLDEST_SERVER, readBinaryVersion } from './server-version';
import type { Report, ServerBinary, ServerSource } from './types';

const PROGRAMS = ['valkey-server', 'redis-server'] as const;

export interface FindOptions {
  /** Where an unpacked server is looked for and kept. */
  readonly cacheDir: string;
  /** Fetch the platform's packages as the last way. Default true. */
  readonly download?: boolean;
  readonly env: NodeJS.ProcessEnv;
  readonly report: Report;
}

/** The places searched, one line each, for the error that ends a search without a result. */
export type Tried = string[];

/**
 * A server program that runs on this machine: BELAY_TEST_SERVER, PATH, an earlier unpacked copy, the platform's packages, in
 * that order. Undefined when there is none; `tried` then says why, line by line.
 */
export async function findBinary(options: FindOptions, tried: Tried): Promise<ServerBinary | undefined> {
  const named = options.env.BELAY_TEST_SERVER ?? '';
  if (named !== '') return checkNamed(named);
  const here = (await findOnPath(options, tried)) ?? (await findUnpacked(options.cacheDir, tried));
  if (here !== undefined || options.download === false) return here;
  return unpackDebianServer(options, tried);
}

/** The user chose BELAY_TEST_SERVER: no other server takes its place. */
async function checkNamed(path: string): Promise<ServerBinary> {
  const version = await readBinaryVersion(path);
  if ('failure' in version) {
    throw new BelayError(
      'SERVER_UNREACHABLE',
      `BELAY_TEST_SERVER=${path} cannot be used: ${version.failure}.`,
    );
  }
  if (!isNewEnough(version.version)) {
    throw new BelayError(
      'SERVER_UNREACHABLE',
      `BELAY_TEST_SERVER=${path} is ${version.name} ${version.version}; Belay needs ${OLDEST_SERVER} or later.`,
    );
  }
  return { path, version, source: 'test-server' };
}

async function findOnPath(options: FindOptions, tried: Tried): Promise<ServerBinary | undefined> {
  let seen = false;
  for (const program of PROGRAMS) {
    for (const directory of (options.env.PATH ?? '').split(delimiter)) {
      const path = join(directory, program);
      if (directory === '' || !isProgram(path)) continue;
      seen = true;
      const found = await probe(path, 'path', tried);
      if (typeof found !== 'string') return found;
      options.report(found);
    }
  }
  if (!seen) tried.push('no valkey-server or redis-server on PATH');
  return undefined;
}

async function probe(path: string, source: ServerSource, tried: Tried): Promise<ServerBinary | string> {
  const version = await readBinaryVersion(path);
  const why =
    'failure' in version
      ? `skipped ${path}: it does not run (${version.failure})`
      : `skipped ${path}: ${version.name} ${version.version} is older than ${OLDEST_SERVER}`;
  if (!('failure' in version) && isNewEnough(version.version)) return { path, version, source };
  tried.push(why);
  return why;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
