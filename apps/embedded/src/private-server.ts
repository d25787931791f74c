import { join } from 'node:path';
import { startThrowawayServer, type ThrowawayServerOptions } from '#libs/local-server';

/** A server that this process alone reaches and that keeps nothing. */
export interface PrivateServer {
  readonly url: string;
  /** For what the services keep on disk; goes with the server. */
  readonly dataDir: string;
  stop(): Promise<void>;
}

/**
 * Starts it on a socket in a fresh directory that only this user can enter. It and the directory are gone after `stop`,
 * and also when this process dies without it. `onEnded` hears of an end that nobody asked for. It uses a server found on
 * this machine and downloads nothing.
 * @throws BelayError SERVER_UNREACHABLE, with what was tried and what to install
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
