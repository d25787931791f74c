import { readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { BelayError } from '#libs/contracts';
import { askServer, socketUrl, type Answer, type ServerAddress } from './ask-server';
import type { Report, ServerBinary } from './types';
import type { ServerLogin } from './server-login';
import { startWatched, type WatchedServer } from './watch-owner';
import { errorMessage } from './error-message';

/** Milliseconds a server may go on loading its append-only file. */
const LOAD_TIMEOUT_MS = 600_000;
/** Milliseconds between two looks at a server that does not answer yet. */
const LOOK_MS = 5;
/** Milliseconds for reading the last output of an ended server. */
const LAST_WORDS_MS = 1_000;
const LOG_NAME = 'server.log';
const LOG_LIMIT_BYTES = 5 * 1024 * 1024;

/** The server's address: a socket's path, or a port of 127.0.0.1. Without a login the server asks for no password. */
export type Endpoint = ({ readonly socketPath: string } | { readonly port: number }) & {
  readonly login?: ServerLogin;
};

export interface LaunchOptions {
  readonly binary: ServerBinary;
  /** Data and log of the server. */
  readonly dir: string;
  readonly endpoint: Endpoint;
  readonly appendonly: boolean;
  readonly args?: readonly string[];
  /** Read before the arguments. A sentinel writes its state into it. */
  readonly configFile?: string;
  readonly removeDirectory?: string;
  readonly startTimeoutMs?: number;
  readonly report?: Report;
  /** Called as soon as the process exists, before it answers. */
  readonly onStarted?: (watched: WatchedServer) => void;
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts a server and resolves once it answers PING; an early end rejects with the last lines of its log. */
export async function launchServer(options: LaunchOptions): Promise<WatchedServer> {
  rotateLog(options.dir);
  let watched: WatchedServer;
  try {
    watched = await startWatched({
      command: [options.binary.path, ...serverArguments(options)],
      ...(options.binary.libraryPath === undefined ? {} : { libraryPath: options.binary.libraryPath }),
      ...(options.removeDirectory === undefined ? {} : { removeDirectory: options.removeDirectory }),
      ...(options.env === undefined ? {} : { env: options.env }),
    });
  } catch (cause) {
    throw new BelayError(
      'SERVER_UNREACHABLE',
      `${options.binary.path} could not be started: ${errorMessage(cause)}.`,
      {
        cause,
      },
    );
  }
  try {
    options.onStarted?.(watched);
    await untilReady(addressOf(options.endpoint), options, () => watched.hasExited());
  } catch (cause) {
    if (watched.hasExited()) await lastWords(watched);
    const failure = new BelayError(
      'SERVER_UNREACHABLE',
      `${options.binary.path} ${errorMessage(cause)}.${lastLines(options.dir, watched.output())}`,
      { cause },
    );
    await watched.end({ keepDirectory: options.removeDirectory === undefined });
    throw failure;
  }
  return watched;
}

/** A process's end may be seen before its last output was read, so the caller waits for that output, for a bounded time. */
async function lastWords(watched: WatchedServer): Promise<void> {
  const limit = new AbortController();
  const { signal } = limit;
  await Promise.race([watched.exited, pause(LAST_WORDS_MS, undefined, { signal }).catch(() => undefined)]);
  limit.abort();
}

export function addressOf(endpoint: Endpoint): ServerAddress {
  const { username, password } = endpoint.login ?? {};
  const login = username === undefined || password === undefined ? {} : { username, password };
  return 'socketPath' in endpoint
    ? { path: endpoint.socketPath, tls: false, ...login }
    : { host: '127.0.0.1', port: endpoint.port, tls: false, ...login };
}

/** With the password, if there is one: must not be logged. */
export function urlOf(endpoint: Endpoint): string {
  const { login } = endpoint;
  const url = shownUrlOf(endpoint);
  if (login === undefined) return url;
  const { username, password } = login;
  return 'socketPath' in endpoint
    ? `${url}?username=${username}&password=${password}`
    : url.replace('://', `://${username}:${password}@`);
}

/** Without a password. */
export function shownUrlOf(endpoint: Endpoint): string {
  return 'socketPath' in endpoint ? socketUrl(endpoint.socketPath) : `redis://127.0.0.1:${endpoint.port}`;
}

/** Waits for PONG. While the server loads its file, reports the progress. */
export async function untilReady(
  address: ServerAddress,
  options: { readonly startTimeoutMs?: number; readonly report?: Report },
  hasExited: () => boolean,
): Promise<void> {
  const startTimeoutMs = options.startTimeoutMs ?? 20_000;
  const begun = performance.now();
  let loading = false;
  let toldAt = begun;
  for (;;) {
    if (hasExited()) throw new Error('ended before it answered');
    const answers = await ask(address);
    if (answers[0]?.ok === true) return;
    const refusal = answers[0]?.ok === false ? answers[0].error : '';
    if (refusal !== '' && !/^(LOADING|BUSY|MASTERDOWN)/.test(refusal))
      throw new Error(`refuses PING: ${refusal}`);
    loading = refusal.startsWith('LOADING');
    const now = performance.now();
    if (now - begun > (loading ? LOAD_TIMEOUT_MS : startTimeoutMs)) {
      throw new Error(
        `${loading ? 'is still loading' : 'did not answer'} after ${Math.round((now - begun) / 1000)} s`,
      );
    }
    if (loading && now - toldAt > 1_000) {
      options.report?.(`waiting for the server to load its data … ${percentLoaded(answers[1])}`);
      toldAt = now;
    }
    await pause(LOOK_MS);
  }
}

async function ask(address: ServerAddress): Promise<readonly Answer[]> {
  try {
    return await askServer(address, [['PING'], ['INFO', 'persistence']], 2_000);
  } catch {
    return []; // nobody listens yet
  }
}

function percentLoaded(answer: Answer | undefined): string {
  const percent = answer?.ok === true ? /^loading_loaded_perc:([\d.]+)/m.exec(answer.text)?.[1] : undefined;
  return percent === undefined ? '' : `${Math.round(Number(percent))} %`;
}

function serverArguments(options: LaunchOptions): string[] {
  const listen =
    'socketPath' in options.endpoint
      ? ['--port', '0', '--unixsocket', options.endpoint.socketPath, '--unixsocketperm', '700']
      : ['--port', String(options.endpoint.port), '--bind', '127.0.0.1'];
  const keep = options.appendonly
    ? ['--appendonly', 'yes', '--appendfsync', 'everysec']
    : ['--appendonly', 'no'];
  const settings = ['--save', '', '--maxmemory-policy', 'noeviction', '--daemonize', 'no'];
  const { login } = options.endpoint;
  const users = login === undefined ? [] : ['--aclfile', login.aclFile];
  const places = ['--dir', options.dir, '--logfile', join(options.dir, LOG_NAME)];
  const config = options.configFile === undefined ? [] : [options.configFile];
  return [...config, ...listen, ...keep, ...settings, ...users, ...places, ...(options.args ?? [])];
}

/** The log is appended to at every start; one older part is kept. */
function rotateLog(dir: string): void {
  const log = join(dir, LOG_NAME);
  try {
    if (statSync(log).size > LOG_LIMIT_BYTES) renameSync(log, `${log}.1`);
  } catch {
    // No log yet.
  }
}

function lastLines(dir: string, output: string): string {
  let log = '';
  try {
    log = readFileSync(join(dir, LOG_NAME), 'utf8');
  } catch {
    // The server ended before it opened its log; only its printed output exists.
  }
  const lines = `${log}\n${output}`.split('\n').filter((line) => line.trim() !== '');
  return lines.length === 0 ? '' : ` Its last lines:\n${lines.slice(-8).join('\n')}`;
}
