/** What is used of #libs/valkey, loaded only where a server is needed: it brings the server's libraries with it. */
export interface StateServer {
  readonly url: string;
  /** The address as it may be shown: without a password. */
  readonly shownUrl: string;
  /** `valkey 8.0.1 (path)`. */
  readonly describe: string;
  stop(): Promise<void>;
}

/** The server of BELAY_VALKEY_URL, or a local one on the data dir, found or started. */
export async function ensureStateServer(
  env: NodeJS.ProcessEnv,
  dataDir: string,
  report: (line: string) => void,
): Promise<StateServer> {
  const { ensureServer, withoutPassword } = await import('#libs/valkey');
  const server = await ensureServer({ dataDir, env, report });
  const source = server.reused && server.source !== 'url' ? `${server.source}, shared` : server.source;
  return {
    url: server.url,
    shownUrl: withoutPassword(server.url),
    describe: `${server.version.name} ${server.version.version} (${source})`,
    stop: async () => await server.stop(),
  };
}
