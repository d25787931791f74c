import { relative } from 'node:path';
import { UsageError } from '../exit-codes';
import { dataDirAt, readOrchestratorFile, readTokenFile, type DataDir } from './data-dir';

export const DEFAULT_URL = 'http://127.0.0.1:7070';

/** Flags that every command takes. */
export interface GlobalOptions {
  readonly url?: string;
  readonly tokenFile?: string;
  readonly dataDir?: string;
  readonly json?: boolean;
  /** False with `--no-color`. */
  readonly color?: boolean;
}

/** The orchestrator's address, the token for it, and the sources of both. */
export interface Connection {
  /** The first of `urls`. */
  readonly url: string;
  /** Orchestrators of one fleet; the first is tried first. */
  readonly urls: readonly string[];
  readonly urlFrom: string;
  readonly token?: string;
  readonly tokenFrom: string;
  readonly dataDir: DataDir;
}

/** Flags, then environment, then the record of `belay up` in the data dir. The token never comes from argv. */
export function findConnection(cwd: string, env: NodeJS.ProcessEnv, flags: GlobalOptions): Connection {
  const dataDir = dataDirAt(cwd, env, flags.dataDir);
  const { named, urlFrom } = findUrl(cwd, env, flags, dataDir);
  const urls = named.split(',').map((url) => url.trim());
  return { dataDir, url: urls[0] ?? named, urls, urlFrom, ...findToken(cwd, env, flags, dataDir) };
}

function findUrl(
  cwd: string,
  env: NodeJS.ProcessEnv,
  flags: GlobalOptions,
  dataDir: DataDir,
): { readonly named: string; readonly urlFrom: string } {
  if (flags.url !== undefined) return { named: flags.url, urlFrom: '--url' };
  if ((env['BELAY_URL'] ?? '') !== '') return { named: String(env['BELAY_URL']), urlFrom: 'BELAY_URL' };
  const left = readOrchestratorFile(dataDir);
  if (left !== undefined) return { named: left.url, urlFrom: shown(cwd, dataDir.orchestrator) };
  return { named: DEFAULT_URL, urlFrom: 'the default' };
}

function findToken(
  cwd: string,
  env: NodeJS.ProcessEnv,
  flags: GlobalOptions,
  dataDir: DataDir,
): Pick<Connection, 'token' | 'tokenFrom'> {
  if (flags.tokenFile !== undefined) {
    const token = readNamed(flags.tokenFile);
    return { token, tokenFrom: flags.tokenFile };
  }
  const given = (env['BELAY_TOKEN'] ?? '').trim();
  if (given !== '') return { token: given, tokenFrom: 'BELAY_TOKEN' };
  const elsewhere = flags.url ?? env['BELAY_URL'] ?? '';
  // The data dir's token is for the fleet of this machine: it is not sent to any other address.
  if (elsewhere !== '' && !elsewhere.split(',').every((url) => isLoopback(url.trim())))
    return { tokenFrom: 'nowhere: for an address off this machine set BELAY_TOKEN or give --token-file' };
  const token = readTokenFile(dataDir.token);
  if (token !== undefined) return { token, tokenFrom: shown(cwd, dataDir.token) };
  return { tokenFrom: `nowhere: neither BELAY_TOKEN nor ${shown(cwd, dataDir.token)} is there` };
}

function readNamed(path: string): string {
  let token: string | undefined;
  try {
    token = readTokenFile(path);
  } catch (error) {
    throw new UsageError(`--token-file ${path} cannot be read: ${(error as Error).message}`);
  }
  if (token === undefined) throw new UsageError(`--token-file ${path} is missing or empty.`);
  return token;
}

function isLoopback(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const host = new URL(url).hostname;
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function shown(cwd: string, path: string): string {
  const near = relative(cwd, path);
  return near.startsWith('..') ? path : near;
}
