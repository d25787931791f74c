/** The origin of a server. People see it, and the record of a running server keeps it. */
export type ServerSource = 'url' | 'path' | 'unpacked' | 'packages' | 'docker' | 'test-server';

/** The server's product and version: Valkey and Redis count their versions apart. */
export interface ServerVersion {
  readonly name: 'valkey' | 'redis';
  /** `8.0.1`; `unknown` when this user may not ask the server. */
  readonly version: string;
}

/** A server that answered PING. */
export interface LocalServer {
  /**
   * `redis://127.0.0.1:PORT`, `unix:///abs/path.sock`, or the value of BELAY_VALKEY_URL. With the password, where the server
   * asks for one: must not be logged.
   */
  readonly url: string;
  /** For BELAY_VALKEY_URL_FILE: a file with `url` that this user alone can read. Only of a server that Belay started. */
  readonly urlFile?: string;
  /** The socket's path, when the server listens on one. */
  readonly socketPath?: string;
  /** The server's pid; absent when the server is not a known process of this machine. */
  readonly pid?: number | undefined;
  readonly version: ServerVersion;
  readonly source: ServerSource;
  /** Slots of a Cluster that are moving to another node. */
  readonly moving?: readonly number[];
  /** Another caller owns the server, or it was given by URL: `stop()` then leaves it running. */
  readonly reused: boolean;
  /** Resolves when the server has ended, for any reason. Never resolves for a server that this caller does not own. */
  readonly exited: Promise<void>;
  /**
   * Starts the server again on the same data and address after it ended by itself; `pid` and `exited` then belong to the new
   * process. Rejects when the start fails, and may be called again. Absent where this caller does not own the server.
   */
  readonly revive?: () => Promise<void>;
  /** Ends the server with its data flushed, and resolves when the process is gone. Idempotent. */
  stop(): Promise<void>;
}

/** A server for one test or benchmark: its data is removed with it. */
export interface ThrowawayServer extends LocalServer {
  /** Its temporary directory, removed by `stop()` or when the owner dies. */
  readonly dir: string;
  readonly pid: number;
  /** SIGKILL, as a crash would; resolves when the process is gone. The directory stays. */
  kill9(): Promise<void>;
  /** Starts the server again on the same directory and address after `kill9()`; stops it first if it runs. */
  restart(): Promise<void>;
}

/** Takes one line of progress, without a newline. */
export type Report = (line: string) => void;

export interface EnsureServerOptions {
  /** Where state, log and an unpacked server are kept. Default: BELAY_DATA_DIR, else `.belay`. */
  readonly dataDir?: string;
  /** `socket` (default), or a TCP port of the loopback interface. */
  readonly listen?: 'socket' | 'tcp';
  /** With `listen: 'tcp'`: this port instead of a free one. */
  readonly port?: number;
  /** The directory of an unpacked server. Default: `server` in the data dir. */
  readonly cacheDir?: string;
  /** Milliseconds in which a started server must answer. The loading of a large file is counted apart. */
  readonly startTimeoutMs?: number;
  readonly report?: Report;
  /** Default: process.env. */
  readonly env?: NodeJS.ProcessEnv;
}

export interface ThrowawayServerOptions {
  readonly listen?: 'socket' | 'tcp';
  /** The server's own configuration lines: a sentinel needs a file. */
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
