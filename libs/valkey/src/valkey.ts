import type { OnApplicationShutdown } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { Connections, type Server } from './connection';
import { Keyspace } from './keyspace';
import { Quarantine } from './quarantine';
import { Replication } from './replication';
import { ScriptRunner } from './script-runner';
import { ServerClock } from './server-clock';
import { ServerMemory } from './server-memory';
import { assertShardCount } from './shards';
import { renewalsOf } from './topology';

export interface ValkeyOptions {
  /** `redis://…`, `unix:///path`, `redis+sentinel://…` or `redis+cluster://…`. */
  readonly url: string;
  /** First part of every key. */
  readonly keyPrefix: string;
  readonly shards: number;
  /** How long a script call is repeated while the server is away. Milliseconds. */
  readonly patienceMs?: number;
  readonly onTrouble?: (message: string) => void;
}

/** The state server, Sentinel set or Cluster: its connections, keys, scripts and clock. Every module above shares it. */
export class Valkey implements OnApplicationShutdown {
  readonly keys: Keyspace;
  readonly connections: Connections;
  readonly redis: Server;
  readonly scripts: ScriptRunner;
  readonly clock = new ServerClock();
  readonly memory: ServerMemory;
  readonly replication: Replication;
  readonly quarantine: Quarantine;
  /** Fires when the last writes may be lost: after a reconnect, a restart, a failover. */
  readonly renewed$: Observable<void>;

  constructor(readonly options: ValkeyOptions) {
    this.keys = new Keyspace(options.keyPrefix, options.shards);
    this.connections = new Connections(options.url, options.onTrouble);
    this.redis = this.connections.create('state');
    this.scripts = new ScriptRunner(this.redis, options.patienceMs);
    this.memory = new ServerMemory(this.redis);
    this.replication = new Replication(this.redis, this.connections.mode);
    this.quarantine = new Quarantine(this.redis, this.keys, this.scripts);
    this.renewed$ = renewalsOf(this.redis, [this.keys.control, ...this.keys.tags()]);
  }

  /**
   * Connects and checks the shard count. Closes itself when that fails. @throws BelayError SERVER_UNREACHABLE | SHARD_MISMATCH
   */
  async open(timeoutMs?: number): Promise<this> {
    try {
      await this.connections.ready(this.redis, timeoutMs);
      await assertShardCount(this.redis, this.keys);
      await this.scripts.preload();
      await this.observeClock();
    } catch (error) {
      // Otherwise the connections would go on connecting although the caller was told that they could not.
      this.close();
      throw error;
    }
    // A restarted server has lost its scripts.
    this.renewed$.subscribe(() => void this.scripts.preload());
    return this;
  }

  /**
   * Scripts on a connection of their own, for calls that must not wait behind others in one socket. Each call is tried once:
   * the caller repeats it, with a new time of sending.
   */
  scriptsApart(): ScriptRunner {
    return new ScriptRunner(this.connections.create('state'), 0);
  }

  /** The clock of the server that keeps `key`: on a Cluster each server has its own. Milliseconds. */
  async timeAt(key: string): Promise<number> {
    const sentAt = performance.now();
    const [seconds, micros] = (await this.redis.eval("return redis.call('TIME')", 1, key)) as [
      string,
      string,
    ];
    const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
    if (key.startsWith(this.keys.control)) this.clock.observe(now, sentAt, performance.now());
    return now;
  }

  /** Measures the control slot's clock. A process that sends no heartbeats would otherwise use its own wall clock for ever. */
  async observeClock(): Promise<void> {
    await this.timeAt(this.keys.shard(this.keys.control, 'settings'));
  }

  close(): void {
    this.scripts.close();
    this.connections.close();
  }

  onApplicationShutdown(): void {
    this.close();
  }
}
