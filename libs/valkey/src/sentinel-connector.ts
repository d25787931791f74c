import { SentinelConnector, type AbstractConnector } from 'ioredis';

type Options = ConstructorParameters<typeof SentinelConnector>[0];

/**
 * The way to the primary of a Sentinel set. ioredis listens to the sentinels from the moment a connection stands, and goes on when
 * it is lost. If they told of a failover while it asked them for the new primary, it gave up asking, and the connection
 * ended for good: nothing opens it again. Here it stops listening before it asks; the next connection listens anew.
 */
export class PrimaryConnector extends SentinelConnector {
  constructor(options: unknown) {
    super(options as Options);
  }

  override async connect(
    ...args: Parameters<SentinelConnector['connect']>
  ): ReturnType<AbstractConnector['connect']> {
    const { failoverDetector } = this as unknown as { failoverDetector: { cleanup(): void } | null };
    failoverDetector?.cleanup();
    return super.connect(...args);
  }
}
