import type { DynamicModule, OnApplicationShutdown } from '@nestjs/common';
import { BELAY_OPTIONS, BelayModule, type BelayModuleExtras, type BelayModuleOptions } from './belay.module';
import { startPrivateServer, type PrivateServer } from './private-server';

/** As for `BelayModule`; the server and the files belong to the test. */
export type BelayTestingOptions = Omit<BelayModuleOptions, 'url' | 'dataDir'>;

/** The builder that `Test.createTestingModule` of @nestjs/testing returns. */
export interface TestingBuilder<Self> {
  overrideProvider(token: unknown): { useFactory(options: { factory: () => Promise<object> }): Self };
}

/** Short, so that a test that leaves an agent running closes soon; a test of patience sets its own. */
const SHORT = { graceMs: 500, stopTimeoutMs: 500, shards: 1 } as const;

/**
 * Belay for the tests of a Nest application. It contains no mock: a private server for the test, a worker in the test's
 * process, real agents. All of it starts with the application and is gone when `app.close()` resolves. Without a close the
 * server ends with the process, and the agents with it.
 *
 * It uses a server program of this machine and downloads none. @throws BelayError SERVER_UNREACHABLE, with advice what to
 * install, when the application is made
 */
export class BelayTestingModule {
  /**
   * Takes the place of `BelayModule` in tests of a part of the application: `imports: [BelayTestingModule.forRoot(),
   * ReportsModule]`.
   */
  static forRoot({
    isGlobal = true,
    ...options
  }: BelayTestingOptions & BelayModuleExtras = {}): DynamicModule {
    return BelayModule.forRootAsync({ isGlobal, useFactory: async () => TestOptions.make(options) });
  }

  /**
   * For tests of a whole application: its `BelayModule` stays, with other options.
   * `BelayTestingModule.in(Test.createTestingModule({ imports: [AppModule] })).compile()`
   */
  static in<Builder extends TestingBuilder<Builder>>(
    builder: Builder,
    options: BelayTestingOptions = {},
  ): Builder {
    return builder
      .overrideProvider(BELAY_OPTIONS)
      .useFactory({ factory: async () => TestOptions.make(options) });
  }
}

/**
 * The options of one application. They end their server once the application has closed: Nest first closes the modules that use
 * them.
 */
class TestOptions implements OnApplicationShutdown {
  readonly #server: PrivateServer;

  private constructor(server: PrivateServer, options: BelayTestingOptions) {
    this.#server = server;
    const { url, dataDir } = server;
    Object.assign(this, SHORT, options, { url, dataDir });
  }

  static async make(options: BelayTestingOptions): Promise<BelayModuleOptions> {
    const server = await startPrivateServer(() => options.onNotice?.({ kind: 'server-ended' }));
    return new TestOptions(server, options) as TestOptions & BelayModuleOptions;
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#server.stop();
  }
}
