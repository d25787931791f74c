import { connect as connectNet, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ValkeyAddress } from '#libs/contracts';
import { AbstractConnector } from 'ioredis';

const DISCONNECT_MS = 2_000;

/** A connector that tries the nodes in turn, one further with each attempt, from a random node on. */
export function anyNode({ nodes, tls }: ValkeyAddress): new (options: unknown) => AbstractConnector {
  let turn = Math.floor(Math.random() * nodes.length);
  return class extends AbstractConnector {
    constructor() {
      super(DISCONNECT_MS);
    }

    override connect(): Promise<Socket> {
      const { host = '', port = 0 } = nodes[turn++ % nodes.length] ?? {};
      this.connecting = true;
      const socket = tls
        ? connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}) })
        : connectNet({ host, port });
      socket.once('error', (error) => (this.firstError = error));
      this.stream = socket;
      return Promise.resolve(socket);
    }
  };
}
