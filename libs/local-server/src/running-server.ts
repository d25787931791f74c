import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeUrl } from '#libs/contracts';
import { askServer, parseServerUrl } from './ask-server';
import { isAlive, signalProcess, type ProcessIdentity } from './process-identity';
import type { LocalServer, ServerSource, ServerVersion } from './types';
import { STOP_GRACE_MS, untilGone } from './watch-owner';
import { errorMessage } from './error-message';

/** The record that a server's owner writes into its data directory, so that a second caller finds the server. */
export interface RunningRecord {
  /** With the password; a server of an older Belay has none. */
  readonly url: string;
  readonly urlFile?: string;
  readonly socketPath?: string;
  readonly version: ServerVersion;
  readonly source: ServerSource;
  /** The process whose end ends the server. */
  readonly owner: ProcessIdentity;
  /** The server's process; for a container, the `docker run` that runs it. */
  readonly process: ProcessIdentity;
  /** The process that ends the server when the owner is gone. */
  readonly watcher: ProcessIdentity;
}

const NAME = 'server.json';

/** Written whole or not at all. */
export function writeRecord(dir: string, record: RunningRecord): void {
  const path = join(dir, NAME);
  writeFileSync(`${path}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Removes the record if it still names that server. */
export function removeRecord(dir: string, server: ProcessIdentity): void {
  const record = readRecord(dir);
  if (record?.process.pid === server.pid && record.process.startTime === server.startTime) {
    rmSync(join(dir, NAME), { force: true });
  }
}

/**
 * The server that runs on this data directory, seen alive and answering. If its owner died, the server is about to end, and
 * this waits for the end, so that two servers never write one append-only file. A sentence when it runs but cannot be used.
 */
export async function findRunning(dir: string): Promise<RunningRecord | string | undefined> {
  const record = readRecord(dir);
  if (record === undefined || !isAlive(record.process)) return undefined;
  if (!isAlive(record.owner)) {
    return (await endOrphan(record)) ? undefined : `the server (pid ${record.process.pid}) does not end`;
  }
  const address = parseServerUrl(record.url);
  if (address === undefined) return `${join(dir, NAME)} is damaged`;
  try {
    const [pong, info] = await askServer(address, [['PING'], ['INFO', 'server']], 5_000);
    if (pong?.ok !== true)
      return `the server (pid ${record.process.pid}) answers PING with: ${pong?.error ?? 'nothing'}`;
    const pid = info?.ok === true ? /^process_id:(\d+)/m.exec(info.text)?.[1] : undefined;
    if (record.source !== 'docker' && Number(pid) !== record.process.pid) {
      return `process ${pid} answers at ${describeUrl(record.url)} instead of the server (pid ${record.process.pid})`;
    }
    return record;
  } catch (error) {
    const why = errorMessage(error);
    return `the server (pid ${record.process.pid}) runs but does not answer at ${describeUrl(record.url)}: ${why}`;
  }
}

/** Finds the server of a data directory without starting, ending or changing anything. */
export type LocalServerLook =
  | { readonly state: 'none' }
  | { readonly state: 'answers'; readonly url: string; readonly version: ServerVersion; readonly pid: number }
  | {
      readonly state: 'gone' | 'silent';
      readonly url: string;
      readonly pid: number;
      /** The answer to PING, as a phrase. */
      readonly why: string;
      /** The process that runs the server, while it lives. */
      readonly ownerPid?: number;
    };

/** Asks the server that was started on this data directory, if any, whether it answers. */
export async function lookAtLocalServer(dataDir: string): Promise<LocalServerLook> {
  const record = readRecord(join(dataDir, 'valkey'));
  if (record === undefined) return { state: 'none' };
  const { version, owner, process: server } = record;
  const url = describeUrl(record.url);
  const ofOwner = isAlive(owner) ? { ownerPid: owner.pid } : {};
  // The record of a killed owner says nothing about the present.
  if (!isAlive(server) && !isAlive(owner)) return { state: 'none' };
  if (!isAlive(server))
    return { state: 'gone', url, pid: server.pid, why: 'its process is gone', ...ofOwner };
  const address = parseServerUrl(record.url);
  try {
    const [pong] = address === undefined ? [] : await askServer(address, [['PING']], 5_000);
    if (pong?.ok === true) return { state: 'answers', url, version, pid: server.pid };
    const why = `it answers PING with: ${pong?.error ?? 'nothing'}`;
    return { state: 'silent', url, pid: server.pid, why, ...ofOwner };
  } catch (error) {
    return { state: 'silent', url, pid: server.pid, why: errorMessage(error), ...ofOwner };
  }
}

/** Waits until the watcher ends the server. If the watcher was killed too, ends it here. */
async function endOrphan(record: RunningRecord): Promise<boolean> {
  const gone = (waitMs: number): Promise<boolean> =>
    untilGone(record.process, waitMs).then(
      () => true,
      () => false,
    );
  if (isAlive(record.watcher) && (await gone(STOP_GRACE_MS + 5_000))) return true;
  signalProcess(record.process, 'SIGTERM');
  if (await gone(STOP_GRACE_MS)) return true;
  signalProcess(record.process, 'SIGKILL');
  return gone(5_000);
}

/** A handle for a caller that does not own the server: `stop()` leaves it running. */
export function borrow(record: RunningRecord): LocalServer {
  return {
    url: record.url,
    ...(record.urlFile === undefined ? {} : { urlFile: record.urlFile }),
    ...(record.socketPath === undefined ? {} : { socketPath: record.socketPath }),
    ...(record.source === 'docker' ? {} : { pid: record.process.pid }),
    version: record.version,
    source: record.source,
    reused: true,
    exited: new Promise(() => undefined),
    stop: () => Promise.resolve(),
  };
}

function readRecord(dir: string): RunningRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(dir, NAME), 'utf8')) as Partial<RunningRecord>;
    const { url, owner, process, watcher } = record;
    const whole = [url, owner, process, watcher].every((field) => field !== undefined);
    return whole ? (record as RunningRecord) : undefined;
  } catch {
    return undefined;
  }
}
