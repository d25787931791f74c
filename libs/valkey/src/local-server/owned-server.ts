import { join } from 'node:path';
import { BelayError } from '#libs/contracts';
import { withLock } from './locked';
import { findRunning, removeRecord } from './running-server';
import type { LocalServer, Report } from './types';
import type { WatchedServer } from './watch-owner';

/** A start may have to download packages or pull an image first. */
const START_WAIT_MS = 360_000;

/** One start at a time on a data directory: two servers must never write one append-only file. */
export async function withStartLock<T>(dir: string, report: Report, work: () => Promise<T>): Promise<T> {
  const lock = { waitMs: START_WAIT_MS, report, waitingFor: 'starting the server' };
  return await withLock(join(dir, 'starting.lock'), lock, work);
}

export interface OwnedServerPlan {
  /** Where its data is. */
  readonly dir: string;
  readonly facts: Pick<LocalServer, 'url' | 'urlFile' | 'socketPath' | 'version' | 'source'>;
  readonly first: WatchedServer;
  /** Starts it once more, at the same address, and records it; tells of the process before that answers. */
  readonly launch: (onStarted: (watched: WatchedServer) => void) => Promise<WatchedServer>;
  readonly report: Report;
}

/** The server as its owner holds it: it can be stopped, and started again when it ended by itself. */
export function ownServer({ dir, facts, first, launch, report }: OwnedServerPlan): LocalServer {
  let current = first;
  let starting: WatchedServer | undefined;
  let reviving: Promise<void> | undefined;
  let stopping: Promise<void> | undefined;
  const revive = async (): Promise<void> => {
    if (!current.hasExited()) return;
    await current.end({ keepDirectory: true });
    await withStartLock(dir, report, async () => {
      if (stopping !== undefined) return;
      const running = await findRunning(dir);
      if (running !== undefined)
        throw new BelayError(
          'SERVER_UNREACHABLE',
          typeof running === 'string'
            ? `Its data directory ${dir} is in use: ${running}.`
            : `Process ${running.owner.pid} runs a server on its data directory ${dir} now.`,
        );
      try {
        current = await launch((watched) => {
          starting = watched;
          if (stopping !== undefined) void watched.end();
        });
      } finally {
        starting = undefined;
      }
    });
  };
  const stop = async (): Promise<void> => {
    // A start under way is ended and waited for: the process it makes must not be left behind.
    const begun = starting;
    await begun?.end();
    await reviving?.catch(() => undefined);
    await current.end();
    for (const { process } of begun === undefined ? [current] : [begun, current]) removeRecord(dir, process);
  };
  return {
    ...facts,
    get pid() {
      return facts.source === 'docker' ? undefined : current.process.pid;
    },
    reused: false,
    get exited() {
      return current.exited;
    },
    revive: async () => {
      if (stopping !== undefined) return;
      reviving ??= revive().finally(() => (reviving = undefined));
      await reviving;
    },
    stop: async () => await (stopping ??= stop()),
  };
}
