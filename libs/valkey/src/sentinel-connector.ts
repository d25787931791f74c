import { SentinelConnector, type AbstractConnector } from 'ioredis';

type Options = ConstructorParameters<typeof SentinelConnector>[0];

/**
 * The way to the primary of a Sentinel set. ioredis subscribes to the sentinels while a connection stands, and stays subscribed
 * when it is lost. If the sentinels announce a failover while ioredis asks them for the new primary, it gives up asking, and
 * the connection ends for good. This class unsubscribes before it asks; the next connection subscribes anew.
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
