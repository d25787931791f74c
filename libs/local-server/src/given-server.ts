import { BelayError, describeUrl, isBelayError, parseValkeyUrl } from '#libs/contracts';
import { askServer, parseServerUrl } from './ask-server';
import { isNewEnough, OLDEST_SERVER, parseInfoVersion } from './server-version';
import type { LocalServer, ServerVersion } from './types';
import { errorMessage } from './error-message';

const ANSWER_WITHIN_MS = 5_000;

/** Checks that the server of BELAY_VALKEY_URL answers and is new enough. Nothing is started, nothing is written. */
export async function checkGivenServer(url: string): Promise<LocalServer> {
  if (/\+(sentinel|cluster):/.test(url)) return checkMany(url);
  const address = parseServerUrl(url);
  if (address === undefined) {
    throw refuse(
      url,
      'is not a redis://, rediss://, valkey://, valkeys://, unix://, redis+sentinel:// or redis+cluster:// URL',
      'Example: redis://127.0.0.1:6379',
    );
  }
  let version: ServerVersion | undefined;
  try {
    const [pong, info] = await askServer(address, [['PING'], ['INFO', 'server']], ANSWER_WITHIN_MS);
    if (pong?.ok !== true) throw new Error(pong?.error ?? 'no answer to PING');
    version = info?.ok === true ? parseInfoVersion(info.text) : undefined;
  } catch (cause) {
    throw refuse(
      url,
      `cannot be used: ${errorMessage(cause)}`,
      'Start it, correct the URL, or unset it for a local server',
      cause,
    );
  }
  if (version !== undefined && !isNewEnough(version.version)) {
    throw refuse(url, `is ${version.name} ${version.version}`, `Belay needs ${OLDEST_SERVER} or later`);
  }
  return given(url, version, address.path);
}

/** Checks the primary that the sentinels name, or a Cluster whose slots are all served. */
async function checkMany(url: string): Promise<LocalServer> {
  const address = parseValkeyUrl(url);
  if (typeof address === 'string') throw refuse(url, `cannot be used: ${address}`, 'Correct it');
  // Loaded on demand: starting a local server needs no client library.
  const { Connections, movingSlots } = await import('#libs/valkey');
  let trouble = 'no answer';
  const connections = new Connections(url, (message) => {
    trouble = /\((.*)\); trying again$/s.exec(message)?.[1] ?? message;
  });
  try {
    const server = connections.create('state');
    await connections.ready(server, ANSWER_WITHIN_MS);
    const version = parseInfoVersion(await server.info('server'));
    if (version !== undefined && !isNewEnough(version.version))
      throw new Error(`it is ${version.name} ${version.version}, and Belay needs ${OLDEST_SERVER} or later`);
    const moving = await movingSlots(server);
    return { ...given(url, version), ...(moving.length === 0 ? {} : { moving }) };
  } catch (cause) {
    const what = isBelayError(cause) ? trouble : errorMessage(cause);
    throw refuse(url, `cannot be used: ${what}`, 'Start it, or correct the URL', cause);
  } finally {
    connections.close();
  }
}

function given(url: string, version: ServerVersion | undefined, socketPath?: string): LocalServer {
  return {
    url,
    ...(socketPath === undefined ? {} : { socketPath }),
    version: version ?? { name: 'redis', version: 'unknown' },
    source: 'url',
    reused: true,
    exited: new Promise(() => undefined),
    stop: () => Promise.resolve(),
  };
}

function refuse(url: string, what: string, remedy: string, cause?: unknown): BelayError {
  return new BelayError(
    'SERVER_UNREACHABLE',
    `BELAY_VALKEY_URL=${withoutPassword(url)} ${what}. ${remedy}.`,
    { cause },
  );
}

/** A URL that may be shown: passwords never go into errors or logs. */
export function withoutPassword(url: string): string {
  // The path is the whole address: the query has only a login.
  if (url.startsWith('unix:')) return describeUrl(url);
  return url.replace(/^([a-z+]+:\/\/[^:@/]*):.*@/i, '$1:***@').replace(/\?.*$/, '?***');
}
