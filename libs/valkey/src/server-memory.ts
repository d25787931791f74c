import type { Redis } from 'ioredis';
import type { Server } from './connection';
import { connectionTo } from './topology';

/** Memory of one server. Bytes. */
export interface MemoryLook {
  readonly usedBytes: number;
  /** Its `maxmemory`; undefined: the server has no bound of its own. */
  readonly maxBytes?: number;
  /** Objects that the server frees in the background. */
  readonly freeing: number;
}

/** Submits within this time share one look. Milliseconds. */
const KNOWN_MS = 250;

/** The used memory, and the bound, of the server that keeps a key. */
export class ServerMemory {
  private readonly known = new Map<
    Redis,
    { readonly look: Promise<MemoryLook | undefined>; until: number }
  >();

  constructor(private readonly server: Server) {}

  /** Undefined where the server does not answer: it is away, or the login may not ask. */
  async at(key: string): Promise<MemoryLook | undefined> {
    const connection = connectionTo(this.server, key);
    if (connection === undefined) return undefined;
    const now = performance.now();
    const held = this.known.get(connection);
    if (held !== undefined && now < held.until) return held.look;
    for (const [other, { until }] of this.known) if (until < now) this.known.delete(other);
    const look = lookAt(connection).catch(() => undefined);
    this.known.set(connection, { look, until: now + KNOWN_MS });
    return look;
  }

  /** As `at`, but asks the server now. */
  async atNow(key: string): Promise<MemoryLook | undefined> {
    const connection = connectionTo(this.server, key);
    return connection === undefined ? undefined : lookAt(connection).catch(() => undefined);
  }
}

async function lookAt(connection: Redis): Promise<MemoryLook> {
  const text = await connection.info('memory');
  const number = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  const maxBytes = number('maxmemory');
  return {
    // Buffers of replicas and of the append-only file do not count towards maxmemory.
    usedBytes: number('used_memory') - number('mem_not_counted_for_evict'),
    freeing: number('lazyfree_pending_objects'),
    ...(maxBytes === 0 ? {} : { maxBytes }),
  };
}
