import { BelayError, isBelayError, MAX_STORED_CHARS, type QuarantinedRecord } from '#libs/contracts';
import type { Server } from './connection';
import type { Keyspace } from './keyspace';
import { ExpiringMap } from './expiring-map';
import type { ScriptRunner } from './script-runner';

/** Characters of a corrupt record that are shown. */
const CUT = 200;
/** Fields that may contain an agent's environment, results or messages: only their size is shown. */
const SECRET = /:(specs|results|said|asks)$/;
/** The quarantine of one slot has at most this many entries. */
const MOST = 1_000;
/** One pass looks at this many entries of a slot again. */
const LOOKED_AT = 50;
/** This process does not report the same finding again for this long. Milliseconds. */
const QUIET_MS = 5_000;

/** The part of a record that may be shown: its beginning, without tokens and control characters. */
export function cutOf(key: string, text: string): string {
  if (SECRET.test(key)) return `(${text.length} characters, not shown)`;
  const shown = text
    .slice(0, 4 * CUT)
    .replace(/("token"\s*:\s*)"[^"]*"?/g, '$1"…"')
    .replace(/\p{Cc}/gu, '·');
  return shown.slice(0, CUT);
}

/** Where a record is, what is wrong with it, and its text if there is one. */
export interface Corruption {
  readonly key: string;
  readonly field?: string;
  readonly problem: string;
  readonly text?: string;
  /** No sweep can move the record's execution while the record is corrupt. */
  readonly stops?: boolean;
}

/**
 * A typed error that names the key, says what is wrong, and shows a short cut of the data
 * (docs/architecture.md#a-record-that-cannot-be-read).
 */
export function corrupt({ key, field, problem, text = '', stops }: Corruption, cause?: unknown): BelayError {
  const cut = cutOf(key, text);
  const where = field === undefined ? key : `${key} ${field}`;
  return new BelayError(
    'CORRUPT_RECORD',
    `The record at ${where} cannot be read: ${problem}${cut === '' ? '' : `: ${cut}`}. Look with: belay quarantine`,
    {
      cause,
      details: {
        key,
        ...(field === undefined ? {} : { field }),
        problem,
        cut,
        ...(stops === true ? { stops } : {}),
      },
    },
  );
}

/** A stored JSON text. @throws BelayError CORRUPT_RECORD */
export function parseStored<T>(key: string, text: string, field?: string): T {
  const at = { key, text, ...(field === undefined ? {} : { field }) };
  if (text.length > MAX_STORED_CHARS)
    throw corrupt({ ...at, problem: `it is ${text.length} characters long` });
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw corrupt({ ...at, problem: 'it is not JSON' }, cause);
  }
}

export const isCorrupt = (error: unknown): error is BelayError =>
  isBelayError(error) && error.code === 'CORRUPT_RECORD';

/** The server's error for a key of another type than the command expects. */
const WRONG_TYPE = /^WRONGTYPE/;

/** The listed records that the sweeps of one slot leave alone. */
export interface Held {
  readonly size: number;
  /** Whether a listed record keeps sweeps from moving that execution. */
  execution(id: string): boolean;
  record(key: string, field?: string): boolean;
}

/**
 * The list of corrupt records (docs/architecture.md#a-record-that-cannot-be-read). The record stays where it is, since a person
 * may mend it; an entry says where it is and what is wrong. Sweeps leave listed records alone. An entry goes when its record
 * was changed or is gone: the next reader judges the record anew. Stopping processes never depends on the list: a worker kills
 * its agents whatever the state of their records.
 */
export class Quarantine {
  private readonly sent = new ExpiringMap<true>(QUIET_MS, MOST);
  /** Called once for each record in the fleet, by the process that found it first. */
  onFound: ((found: BelayError) => void) | undefined;

  constructor(
    private readonly redis: Server,
    private readonly keys: Keyspace,
    private readonly scripts: ScriptRunner,
  ) {}

  /**
   * Lists the record at fault if `error` is about a corrupt record. Never rejects: if listing fails, a later reader lists it.
   */
  async note(error: unknown): Promise<void> {
    if (!isCorrupt(error)) return;
    const { key, field, problem, cut, stops } = error.details as unknown as Corruption & { cut: string };
    const tag = /^\{[^}]*\}/.exec(key)?.[0];
    if (tag === undefined) return;
    const id = `${key}\t${field ?? ''}\t${stops === true ? 1 : 0}`;
    if (this.sent.has(id)) return;
    this.sent.add(id, true);
    const executionId = /:exe:(exe_[0-9A-Z]+)/.exec(key)?.[1];
    const entry = { key, field, executionId, problem, cut, stops };
    const args = [tag, key, field ?? '', JSON.stringify(entry), MOST, this.keys.eventsChannel];
    try {
      const reply = await this.scripts.json('quarantineRecord', this.keys.shard(tag, 'quarantine'), args);
      if (reply['new'] === true) this.onFound?.(error);
    } catch {
      this.sent.drop(id);
    }
  }

  /** Runs `act`, which reads `key`. Lists a corrupt record; a key of the wrong type is one too. */
  async reading<T>(key: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      const found =
        error instanceof Error && WRONG_TYPE.test(error.message)
          ? corrupt({ key, problem: 'its key has the wrong type' }, error)
          : error;
      void this.note(found);
      throw found;
    }
  }

  /** Runs `act`. A corrupt record is listed, and the result is undefined. */
  async readable<T>(key: string, act: () => Promise<T>): Promise<T | undefined> {
    try {
      return await this.reading(key, act);
    } catch (error) {
      if (isCorrupt(error)) return undefined;
      throw error;
    }
  }

  /** All entries, oldest first. */
  async list(): Promise<QuarantinedRecord[]> {
    const tags = [this.keys.control, ...this.keys.tags()];
    const texts = await Promise.all(
      tags.map(async (tag) => this.redis.hvals(this.keys.shard(tag, 'quarantine'))),
    );
    return texts
      .flat()
      .map((text) => {
        const {
          print: _,
          stops: __,
          ...entry
        } = JSON.parse(text) as QuarantinedRecord & {
          print: string;
          stops?: true;
        };
        return entry;
      })
      .sort((a, b) => a.firstSeenAt - b.firstSeenAt);
  }

  async count(): Promise<number> {
    const tags = [this.keys.control, ...this.keys.tags()];
    const counts = await Promise.all(
      tags.map(async (tag) => this.redis.hlen(this.keys.shard(tag, 'quarantine'))),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /**
   * One pass over a slot: removes entries whose record was mended or removed, and returns the others, which a sweep leaves
   * alone.
   */
  async held(tag: string): Promise<Held> {
    const name = this.keys.shard(tag, 'quarantine');
    if ((await this.redis.hlen(name)) === 0) return NOTHING;
    await this.scripts.run('recheckQuarantine', name, [tag, LOOKED_AT]);
    const entries = Object.entries(await this.redis.hgetall(name));
    const stopped = new Set(
      entries.flatMap(([, text]) => {
        const { executionId, stops } = JSON.parse(text) as { executionId?: string; stops?: boolean };
        return stops === true && executionId !== undefined ? [executionId] : [];
      }),
    );
    const listed = new Set(entries.map(([id]) => id));
    return {
      size: listed.size,
      execution: (id) => stopped.has(id),
      record: (key, field = '') => listed.has(`${key}\t${field}`),
    };
  }
}

const NOTHING: Held = { size: 0, execution: () => false, record: () => false };
