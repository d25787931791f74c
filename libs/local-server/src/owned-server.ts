import { join } from 'node:path';
import { BelayError } from '#libs/contracts';
import { withLock } from './locked';
import { findRunning, removeRecord } from './running-server';
import type { LocalServer, Report } from './types';
import type { WatchedServer } from './watch-owner';

/** A start may first download packages or pull an image. */
const START_WAIT_MS = 360_000;

/** Starts on one data directory run one at a time: two servers must never write one append-only file. */
export async function withStartLock<T>(dir: string, report: Report, work: () => Promise<T>): Promise<T> {
  const lock = { waitMs: START_WAIT_MS, report, waitingFor: 'starting the server' };
  return await withLock(join(dir, 'starting.lock'), lock, work);
}

export interface OwnedServerPlan {
  /** The data directory. */
  readonly dir: string;
  readonly facts: Pick<LocalServer, 'url' | 'urlFile' | 'socketPath' | 'version' | 'source'>;
  readonly first: WatchedServer;
  /** Starts the server again at the same address, and records it. Passes on the process before it answers. */
  readonly launch: (onStarted: (watched: WatchedServer) => void) => Promise<WatchedServer>;
  readonly report: Report;
}

/** The server in its owner's hands: the owner can stop it, and start it again after it ended by itself. */
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
    // Ends a start that is under way and waits for it: its process must not be left behind.
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
