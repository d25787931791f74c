import { Cluster, Command, Redis } from 'ioredis';
import { Observable } from 'rxjs';
import type { Server } from './connection';

function slotOf(key: string): number {
  return new Command('get', [key]).getSlot() ?? 0;
}

/** The address `host:port` to which commands on `key` go now; on one server always the same. */
function primaryOf(server: Cluster, key: string): string | undefined {
  return server.slots[slotOf(key)]?.[0];
}

/** The connection over which commands on `key` go now; undefined while a Cluster does not know it. */
export function connectionTo(server: Server, key: string): Redis | undefined {
  if (!(server instanceof Cluster)) return server;
  const primary = primaryOf(server, key);
  return server.nodes('master').find(({ options }) => `${options.host}:${options.port}` === primary);
}

/** Every connection over which scripts should be loaded: replicas too, as one may be the primary a moment later. */
export function nodesOf(server: Server): readonly Redis[] {
  return server instanceof Cluster ? server.nodes('all') : [server];
}

/**
 * Fires when another server may answer for one of `keys`, or the same one after a loss: after each reconnect, and on a Cluster
 * when a node is gone or a slot has another primary. The last writes may be lost then.
 */
export function renewalsOf(server: Server, keys: readonly string[]): Observable<void> {
  return new Observable((subscriber) => {
    const tell = (): void => subscriber.next();
    if (!(server instanceof Cluster)) {
      let known = server.status === 'ready';
      const onReady = (): void => {
        if (known) tell();
        known = true;
      };
      server.on('ready', onReady);
      return () => server.off('ready', onReady);
    }
    let known: string | undefined;
    const compare = (): void => {
      const now = keys.map((key) => primaryOf(server, key)).join();
      if (known !== undefined && now !== known) tell();
      known = now;
    };
    server.on('refresh', compare).on('-node', tell);
    return () => server.off('refresh', compare).off('-node', tell);
  });
}
