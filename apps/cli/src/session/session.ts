import type { BelayClient } from '#libs/client';
import { createClient } from '#libs/client';
import type { CliProcess } from './cli-process';
import { dataDirAt, type DataDir } from './data-dir';
import { findConnection, type Connection, type GlobalOptions } from './find-connection';
import { keepFlags } from './keep-flags';
import { createStyle, wantsColour, type Style } from './style';

/** One run of one command: where it speaks, to whom, and how. */
export interface Session {
  readonly process: CliProcess;
  readonly options: GlobalOptions;
  /** Found on first use: what asks no orchestrator must not fail over a token it does not need. */
  readonly connection: Connection;
  readonly dataDir: DataDir;
  readonly client: BelayClient;
  readonly isJson: boolean;
  /** Colours for stdout and for stderr: one may be a terminal and the other a file. */
  readonly out: Style;
  readonly err: Style;
  /** Columns for tables on stdout; Infinity where it is not a terminal. */
  readonly width: number;
  /** A line of the result, on stdout. Silent under --json. Commands it names get the flags that say which Belay is meant. */
  print(text?: string): void;
  /** A line as it is, on stdout: what an agent wrote. Silent under --json. */
  printRaw(text: string): void;
  /** The same without a newline behind it, as bytes if need be. */
  write(text: string | Uint8Array): void;
  /** A line about progress or what to do next, on stderr. Silent under --json. */
  note(text: string): void;
  /** The result as one line of JSON, on stdout. */
  json(value: unknown): void;
}

export function openSession(cli: CliProcess, options: GlobalOptions): Session {
  const isJson = options.json === true;
  const colour = options.color !== false;
  let connection: Connection | undefined;
  let client: BelayClient | undefined;
  return {
    process: cli,
    options,
    get connection() {
      if (connection !== undefined) return connection;
      // Others of this user could read the token in our memory; those who opened that before still can.
      cli.closeToOthers();
      return (connection = findConnection(cli.cwd, cli.env, options));
    },
    dataDir: dataDirAt(cli.cwd, cli.env, options.dataDir),
    // Made on first use: `up`, `doctor` and help must work with an address that is not one.
    get client() {
      if (client !== undefined) return client;
      const { urls, token } = this.connection;
      return (client = createClient({ url: urls, ...(token === undefined ? {} : { token }) }));
    },
    isJson,
    out: createStyle(wantsColour(cli.stdout, cli.env, colour)),
    err: createStyle(wantsColour(cli.stderr, cli.env, colour)),
    get width() {
      return cli.stdout.isTTY ? cli.stdout.columns : Infinity;
    },
    print(text = '') {
      if (!isJson) cli.stdout.write(`${keepFlags(text, options)}\n`);
    },
    printRaw(text) {
      if (!isJson) cli.stdout.write(`${text}\n`);
    },
    write(text) {
      if (!isJson) cli.stdout.write(text);
    },
    note(text) {
      if (!isJson) cli.stderr.write(`${keepFlags(text, options)}\n`);
    },
    json(value) {
      cli.stdout.write(`${JSON.stringify(value)}\n`);
    },
  };
}
