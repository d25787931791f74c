/** Where a server came from; shown to people and kept in the record of a running one. */
export type ServerSource = 'url' | 'path' | 'unpacked' | 'packages' | 'docker' | 'test-server';

/** The server's product and version: Valkey and Redis count their versions apart. */
export interface ServerVersion {
  readonly name: 'valkey' | 'redis';
  /** `8.0.1`; `unknown` when the server does not let this user ask. */
  readonly version: string;
}

/** A server that answered PING. */
export interface LocalServer {
  /**
   * `redis://127.0.0.1:PORT`, `unix:///abs/path.sock`, or what BELAY_VALKEY_URL says. With the password, where the server asks
   * for one: not for logs.
   */
  readonly url: string;
  /** A file of this user alone that holds `url`, for BELAY_VALKEY_URL_FILE; of a server that Belay started. */
  readonly urlFile?: string;
  /** The socket's path as it is, when the server listens on one. */
  readonly socketPath?: string;
  /** The server's own pid; absent when it is not a process of this machine that we know. */
  readonly pid?: number | undefined;
  readonly version: ServerVersion;
  readonly source: ServerSource;
  /** Slots of a Cluster that are on their way to another node. */
  readonly moving?: readonly number[];
  /** Another caller owns it (or it was given by URL): `stop()` then leaves it running. */
  readonly reused: boolean;
  /** Resolves when the server has ended, for whatever reason; never for one this caller does not own. */
  readonly exited: Promise<void>;
  /**
   * Starts it again on the same data and address after it ended by itself; `pid` and `exited` are then those of the new
   * process. Rejects where it cannot be, and may be tried again. Absent for one this caller does not own.
   */
  readonly revive?: () => Promise<void>;
  /** Ends the server with its data flushed, and resolves when the process is gone. Idempotent. */
  stop(): Promise<void>;
}

/** A server for one test or benchmark: its data goes with it. */
export interface ThrowawayServer extends LocalServer {
  /** Its temporary directory, removed by `stop()` or when the owner dies. */
  readonly dir: string;
  readonly pid: number;
  /** SIGKILL, as a crash would; resolves when the process is gone. The directory stays. */
  kill9(): Promise<void>;
  /** Starts it again on the same directory and address after `kill9()`, or stops it first. */
  restart(): Promise<void>;
}

/** Takes one line of progress, without a newline. */
export type Report = (line: string) => void;

export interface EnsureServerOptions {
  /** Where state, log and an unpacked server are kept. Default: BELAY_DATA_DIR, else `.belay`. */
  readonly dataDir?: string;
  /** `socket` (default) or a TCP port of the loopback interface. */
  readonly listen?: 'socket' | 'tcp';
  /** With `listen: 'tcp'`: this port instead of a free one. */
  readonly port?: number;
  /** Where an unpacked server is kept. Default: `server` in the data dir. */
  readonly cacheDir?: string;
  /** Milliseconds a started server may take to answer; loading a large file is counted apart. */
  readonly startTimeoutMs?: number;
  readonly report?: Report;
  /** Default: process.env. */
  readonly env?: NodeJS.ProcessEnv;
}

export interface ThrowawayServerOptions {
  readonly listen?: 'socket' | 'tcp';
  /** Lines of a configuration file of its own: a sentinel needs one. */
  readonly config?: string;
  readonly port?: number;
  /** Keep an append-only file, so that `kill9()` and `restart()` find the data again. Default false. */
  readonly appendonly?: boolean;
  /** More arguments for the server, such as `['--maxmemory', '64mb']`. */
  readonly args?: readonly string[];
  /** Default: `.belay/server` of this repository. */
  readonly cacheDir?: string;
  /** Fetch the platform's packages when there is no server on this machine. Default true. */
  readonly download?: boolean;
  readonly startTimeoutMs?: number;
  readonly report?: Report;
  readonly env?: NodeJS.ProcessEnv;
}

/** A server program that was seen to run. */
export interface ServerBinary {
  readonly path: string;
  readonly version: ServerVersion;
  readonly source: ServerSource;
  /** Directories of shared libraries it needs beside the system's. */
  readonly libraryPath?: string;
}
