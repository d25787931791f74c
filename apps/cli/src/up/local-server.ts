import { join } from 'node:path';

/**
 * The parts of #libs/valkey that `up` uses. They are loaded only where a server is needed, since they load its libraries too.
 */
export interface StateServer {
  readonly url: string;
  /** A file with that address that this user alone can read; absent where the user gave the address. */
  readonly urlFile?: string;
  /** The address in a form that may be shown: without a password. */
  readonly shownUrl: string;
  /** `valkey 8.0.1 (path)`. */
  readonly describe: string;
  /** The pid, if the server is a known process of this machine. */
  readonly pid?: number | undefined;
  /** The path of its own log; absent where somebody else runs it. */
  readonly log?: string;
  /** Resolves when the present process has ended; never where somebody else runs it. */
  readonly exited: Promise<void>;
  /** Starts it again with the same data at the same address; absent where somebody else runs it. */
  readonly revive?: () => Promise<void>;
  stop(): Promise<void>;
}

/** The server of BELAY_VALKEY_URL, or a local one on the data dir, found or started. */
export async function ensureStateServer(
  env: NodeJS.ProcessEnv,
  dataDir: string,
  report: (line: string) => void,
): Promise<StateServer> {
  const { ensureServer, withoutPassword } = await import('#libs/local-server');
  const server = await ensureServer({ dataDir, env, report });
  const source = server.reused && server.source !== 'url' ? `${server.source}, shared` : server.source;
  const { revive } = server;
  return {
    url: server.url,
    ...(server.urlFile === undefined ? {} : { urlFile: server.urlFile }),
    shownUrl: withoutPassword(server.url),
    describe: `${server.version.name} ${server.version.version} (${source})`,
    get pid() {
      return server.pid;
    },
    get exited() {
      return server.exited;
    },
    ...(revive === undefined ? {} : { revive, log: join(dataDir, 'valkey', 'server.log') }),
    stop: async () => await server.stop(),
  };
}
