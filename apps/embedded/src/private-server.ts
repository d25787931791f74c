import { join } from 'node:path';
import { startThrowawayServer, type ThrowawayServerOptions } from '#libs/local-server';

/** A server that only this process reaches and that stores nothing for later. */
export interface PrivateServer {
  readonly url: string;
  /** For files of the services; removed with the server. */
  readonly dataDir: string;
  stop(): Promise<void>;
}

/**
 * Starts the server on a socket in a new directory that only this user can enter. Both are gone after `stop`, and also when
 * this process dies without it. `onEnded` is called for an end that nobody asked for. It uses a server program of this machine
 * and downloads nothing.
 * @throws BelayError SERVER_UNREACHABLE, with the ways that were tried and what to install
 */
export async function startPrivateServer(
  onEnded: () => void,
  where: Pick<ThrowawayServerOptions, 'env' | 'cacheDir'> = {},
): Promise<PrivateServer> {
  const server = await startThrowawayServer({ ...where, download: false });
  let stopping = false;
  void server.exited.then(() => stopping || onEnded());
  return {
    url: server.url,
    dataDir: join(server.dir, 'data'),
    stop: async () => {
      stopping = true;
      await server.stop();
    },
  };
}
