import { Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { Connections } from './connection';
import { Keyspace } from './keyspace';
import { ScriptRunner } from './script-runner';
import { ServerClock } from './server-clock';
import { assertShardCount } from './shards';

export interface ValkeyOptions {
  /** `redis://…`, `rediss://…` or `unix:///path`. */
  readonly url: string;
  /** First part of every key. */
  readonly keyPrefix: string;
  readonly shards: number;
  /** How long a script call is repeated while the server is away. Milliseconds. */
  readonly patienceMs?: number;
  readonly onTrouble?: (message: string) => void;
}

/** One server: its connections, keys, scripts and clock, shared by every module above. */
export class Valkey implements OnApplicationShutdown {
  readonly keys: Keyspace;
  readonly connections: Connections;
  readonly redis: Redis;
  readonly scripts: ScriptRunner;
  readonly clock = new ServerClock();

  constructor(readonly options: ValkeyOptions) {
    this.keys = new Keyspace(options.keyPrefix, options.shards);
    this.connections = new Connections(options.url, options.onTrouble);
    this.redis = this.connections.create('state');
    this.scripts = new ScriptRunner(this.redis, options.patienceMs);
  }

  /** Connects and checks the shard count. @throws BelayError SERVER_UNREACHABLE | SHARD_MISMATCH */
  async open(timeoutMs?: number): Promise<this> {
    await this.connections.ready(this.redis, timeoutMs);
    await assertShardCount(this.redis, this.keys);
    await this.scripts.preload();
    // A server that was restarted has forgotten them.
    this.redis.on('ready', () => void this.scripts.preload());
    return this;
  }

  close(): void {
    this.connections.close();
  }

  onApplicationShutdown(): void {
    this.close();
  }
}

/** Gives `Valkey` to every module of the application. */
@Module({})
export class ValkeyModule {
  static forRoot(options: ValkeyOptions): DynamicModule {
    return {
      module: ValkeyModule,
      global: true,
      providers: [{ provide: Valkey, useFactory: () => new Valkey(options).open() }],
      exports: [Valkey],
    };
  }
}
