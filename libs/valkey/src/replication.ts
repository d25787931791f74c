import type { Redis } from 'ioredis';
import type { Connections, Server } from './connection';
import { connectionTo } from './topology';

/** A caller waits this long for a replica. Milliseconds. */
export const REPLICA_WAIT_MS = 100;
/** A timer of this process beside the server's: a primary that hangs does not answer WAIT either. Milliseconds. */
const SLACK_MS = 50;
/** How long the knowledge of whether a server has replicas is used. Milliseconds. */
const KNOWN_MS = 10_000;

/** A moment on one connection: it covers all writes over it until then. */
export interface WriteMark {
  readonly connection: Redis | undefined;
  readonly session: number;
}

/** Tells whether the last write has reached a replica. Never rejects, never takes longer than its bound. */
export class Replication {
  /** Counts reconnects: WAIT on a new connection does not cover writes of the old one. */
  private readonly sessions = new WeakMap<Redis, number>();
  private readonly known = new WeakMap<Redis, { readonly any: boolean; readonly until: number }>();

  constructor(
    private readonly server: Server,
    private readonly mode: Connections['mode'],
  ) {}

  /** A mark after a write at `key`. Must be taken in the same turn of the event loop as the write's reply. */
  mark(key: string): WriteMark {
    const connection = connectionTo(this.server, key);
    return { connection, session: connection === undefined ? 0 : this.session(connection) };
  }

  /**
   * Whether a replica has the writes until `mark`; undefined where the server has no replica. False: none acknowledged in time,
   * but the write may still arrive. Later calls on the connection wait as well, for that long.
   */
  async reached(mark: WriteMark): Promise<boolean | undefined> {
    const { connection } = mark;
    if (connection === undefined) return false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), REPLICA_WAIT_MS + SLACK_MS);
    });
    const asked = this.ask(connection, mark).catch(() => false);
    try {
      return await Promise.race([asked, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  private async ask(connection: Redis, { session }: WriteMark): Promise<boolean | undefined> {
    if (!(await this.hasReplicas(connection))) return undefined;
    if (this.session(connection) !== session) return false;
    const replicas = await connection.wait(1, REPLICA_WAIT_MS);
    return replicas > 0 && this.session(connection) === session;
  }

  private async hasReplicas(connection: Redis): Promise<boolean> {
    // Sentinels watch a primary that has replicas, so without a connected replica the answer is `false`, not undefined.
    if (this.mode === 'sentinel') return true;
    const known = this.known.get(connection);
    if (known !== undefined && known.until > performance.now()) return known.any;
    const any = Number(/^connected_slaves:(\d+)/m.exec(await connection.info('replication'))?.[1] ?? 0) > 0;
    this.known.set(connection, { any, until: performance.now() + KNOWN_MS });
    return any;
  }

  private session(connection: Redis): number {
    const session = this.sessions.get(connection);
    if (session !== undefined) return session;
    this.sessions.set(connection, 0);
    connection.on('close', () => {
      this.sessions.set(connection, (this.sessions.get(connection) ?? 0) + 1);
      // The next server may have replicas or none.
      this.known.delete(connection);
    });
    return 0;
  }
}
