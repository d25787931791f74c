import type { Order, Scope } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import { DagExecutor } from '#libs/executions';
import { ControlSettings, KillswitchService, LatchStore, OrderStore } from '#libs/killswitch';
import { ChangeFeed, type Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import { useLife, type Rig } from './life';

/** The stores of a killswitch. */
export interface OrderStores {
  readonly settings: ControlSettings;
  readonly latches: LatchStore;
  readonly orders: OrderStore;
}

/** The stores as KillswitchModule makes them. */
export function orderStores(valkey: Valkey, retentionMs = 60_000): OrderStores {
  const settings = new ControlSettings(valkey, retentionMs);
  const latches = new LatchStore(valkey, settings);
  return { settings, latches, orders: new OrderStore(valkey, settings, latches) };
}

/** A killswitch with all its parts, as an orchestrator has them. */
export interface KillswitchRig extends Rig, OrderStores {
  readonly queues: AgentQueues;
  readonly feed: ChangeFeed;
  readonly dag: DagExecutor;
  readonly killswitch: KillswitchService;
}

/** A killswitch on a server of its own, from before the first test of a file until after its last. */
export function useKillswitch(
  onReady: (rig: KillswitchRig) => void,
  options: Partial<ConstructorParameters<typeof KillswitchService>[5]> = {},
): void {
  let made: Rig | undefined;
  let queues: AgentQueues | undefined;
  let feed: ChangeFeed | undefined;
  // Before useLife's own hook, which closes the connections that these use.
  afterAll(async () => {
    feed?.stop();
    await queues?.close();
  });
  useLife((rig) => (made = rig));
  beforeAll(async () => {
    if (made === undefined) throw new Error('the server did not start');
    const { valkey, life } = made;
    queues = new AgentQueues(life, { prefix: 'bull' });
    feed = new ChangeFeed(valkey);
    await feed.start();
    const stores = orderStores(valkey);
    const dag = new DagExecutor(life, queues);
    const killswitch = new KillswitchService(life, dag, stores.orders, stores.latches, feed, {
      proofLimitMs: 60_000,
      ...options,
    });
    onReady({ ...made, ...stores, queues, feed, dag, killswitch });
  });
}

/** A kill of that scope that has not been placed. */
export function killOf(scope: Scope): Omit<Order, 'seq' | 'placedAt'> {
  return { id: `ord_${ulid()}`, kind: 'kill', scope, mode: 'graceful', reason: 'killswitch', by: 'me' };
}
