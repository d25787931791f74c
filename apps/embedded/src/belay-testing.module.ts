import type { DynamicModule, OnApplicationShutdown } from '@nestjs/common';
import { BELAY_OPTIONS, BelayModule, type BelayModuleExtras, type BelayModuleOptions } from './belay.module';
import { startPrivateServer, type PrivateServer } from './private-server';

/** As for `BelayModule`; the server and the files are the test's own. */
export type BelayTestingOptions = Omit<BelayModuleOptions, 'url' | 'dataDir'>;

/** What `Test.createTestingModule` of @nestjs/testing gives. */
export interface TestingBuilder<Self> {
  overrideProvider(token: unknown): { useFactory(options: { factory: () => Promise<object> }): Self };
}

/** A test that leaves an agent running closes soon; a test of patience gives its own. */
const SHORT = { graceMs: 500, stopTimeoutMs: 500, shards: 1 } as const;

/**
 * Belay for the tests of a Nest application. Nothing of it is a mock: a private server of the test's own, a worker in the
 * process of the test, real agents. All of it starts with the application and is gone when `app.close()` resolves; without a
 * close the server ends with the process, and the agents with it.
 *
 * It uses a server program of this machine and downloads none. @throws BelayError SERVER_UNREACHABLE, with what to install,
 * when the application is made
 */
export class BelayTestingModule {
  /** In the place of `BelayModule`, for the tests of a part of the application: `imports: [BelayTestingModule.forRoot(), ReportsModule]`. */
  static forRoot({
    isGlobal = true,
    ...options
  }: BelayTestingOptions & BelayModuleExtras = {}): DynamicModule {
    return BelayModule.forRootAsync({ isGlobal, useFactory: async () => TestOptions.make(options) });
  }

  /**
   * For the tests of a whole application: its `BelayModule` is as it was, with other options.
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

/** The options of one application, which end their server once it has closed: Nest closes the modules that use them first. */
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
