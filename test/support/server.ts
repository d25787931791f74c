import { startThrowawayServer, type ThrowawayServer, type ThrowawayServerOptions } from '#libs/local-server';

/** The server of one test file or `describe`; its members may be read from `beforeAll` on. */
export type TestServer = ThrowawayServer;

/**
 * Gives the calling test file or `describe` a server of its own: started before its tests, gone after them.
 *
 * ```ts
 * const server = useServer();
 * it('answers', async () => { const client = new Redis(server.socketPath); … });
 * ```
 */
export function useServer(options: ThrowawayServerOptions = {}): TestServer {
  let server: ThrowawayServer | undefined;
  // The first run on a machine without a server downloads one.
  beforeAll(async () => {
    server = await startThrowawayServer(options);
  }, 300_000);
  afterAll(async () => {
    await server?.stop();
  }, 30_000);
  return new Proxy({} as ThrowawayServer, {
    get(_target, name) {
      if (server === undefined) throw new Error(`useServer(): ${String(name)} was read before beforeAll ran`);
      return Reflect.get(server, name, server) as unknown;
    },
  });
}
