import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { ThrowawayServer } from '#libs/local-server';
import { call } from '../support/many-servers';

/** The connections of one process to the state, and everything that can be done to them. */
export interface Wire {
  /** For BELAY_VALKEY_URL. */
  readonly url: string;
  /** Breaks every connection; new ones are accepted. */
  cut(): void;
  /** Breaks every connection, and none lasts until `heal`. */
  refuse(): void;
  delay(ms: number): void;
  stall(): void;
  deafen(): void;
  holdAtClaim(ms: number, signal: AbortSignal): Promise<boolean>;
  heal(): void;
  close(): void;
}

/** A new connection is broken again after this long. Milliseconds. */
const AGAIN_MS = 30;

/**
 * The connections of a process to many servers. The servers announce their own addresses, so there is no proxy in between, and
 * the servers break the connections.
 */
export class ManyWire implements Wire {
  #refusing: NodeJS.Timeout | undefined;

  constructor(
    readonly url: string,
    private readonly servers: readonly ThrowawayServer[],
    private readonly pid: () => number | undefined,
  ) {}

  cut(): void {
    const pid = this.pid();
    if (pid === undefined) return;
    const byPort = new Map(this.servers.map((server) => [Number(new URL(server.url).port), server]));
    for (const { local, remote } of socketsOf(pid)) {
      const server = byPort.get(remote);
      if (server === undefined) continue;
      // The connection is gone by itself, or its server is dead.
      call(server, 'CLIENT', 'KILL', 'ADDR', `127.0.0.1:${local}`).catch(() => undefined);
    }
  }

  refuse(): void {
    this.cut();
    this.#refusing ??= setInterval(() => this.cut(), AGAIN_MS);
  }

  heal(): void {
    clearInterval(this.#refusing);
    this.#refusing = undefined;
  }

  close(): void {
    this.heal();
  }

  delay(): void {
    throw new Error('there is no proxy on this ground');
  }

  stall(): void {
    this.delay();
  }

  deafen(): void {
    this.delay();
  }

  holdAtClaim(): Promise<boolean> {
    return Promise.resolve(false);
  }
}

/** TCP connections of a process on the loopback interface, by their ports. */
function socketsOf(pid: number): { local: number; remote: number }[] {
  const inodes = new Set<string>();
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      const target = linkOf(`/proc/${pid}/fd/${fd}`);
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode !== undefined) inodes.add(inode);
    }
  } catch {
    return []; // the process has ended
  }
  return readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .flatMap((line) => {
      const [, local = '', remote = '', , , , , , , inode = ''] = line.trim().split(/\s+/);
      return inodes.has(inode) ? [{ local: portOf(local), remote: portOf(remote) }] : [];
    });
}

const portOf = (address: string): number => Number.parseInt(address.split(':')[1] ?? '0', 16);

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // closed meanwhile
  }
}
