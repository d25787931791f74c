import type { Cluster } from 'ioredis';

/**
 * Makes `connect()` of ioredis's Cluster settle. In ioredis it never settles where the nodes answer but the Cluster is down, as
 * until a replica has taken over from a dead primary: ioredis goes on in the background, and forgets the promise. BullMQ awaits
 * that promise without a bound before it takes the next job, so its worker took none for as long as it lived. Here it settles
 * when the connection is ready, or has ended.
 */
export function settleConnect(cluster: Cluster): void {
  endsWhenTold(cluster);
  const connect = cluster.connect.bind(cluster);
  let waiting: Promise<void> | undefined;
  cluster.connect = () => {
    const tried = connect();
    // ioredis calls this function repeatedly in the background.
    waiting ??= settled(cluster, tried).finally(() => (waiting = undefined));
    tried.catch(() => undefined);
    return waiting;
  };
}

function settled(cluster: Cluster, tried: Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (how: () => void): void => {
      cluster.off('ready', onReady);
      cluster.off('end', onEnd);
      how();
    };
    const onReady = (): void => settle(resolve);
    const onEnd = (): void => settle(() => reject(new Error('Connection is closed.')));
    cluster.once('ready', onReady);
    cluster.once('end', onEnd);
    tried.then(onReady, (error: Error) => settle(() => reject(error)));
  });
}

/** The internal parts of ioredis's Cluster that it calls itself when it ends a connection that was never opened. */
interface Inside {
  setStatus(status: string): void;
  handleCloseEvent(): void;
}

/**
 * Ends a Cluster that is told to disconnect between two tries: it has no node left that could report an end, so it would never
 * end.
 */
function endsWhenTold(cluster: Cluster): void {
  const disconnect = cluster.disconnect.bind(cluster);
  cluster.disconnect = (reconnect = false) => {
    const isBetween = cluster.status === 'reconnecting';
    disconnect(reconnect);
    if (!isBetween || reconnect || cluster.status !== 'disconnecting') return;
    const inside = cluster as unknown as Inside;
    inside.setStatus('close');
    inside.handleCloseEvent();
  };
}
