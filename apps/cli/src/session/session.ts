import type { BelayClient } from '#libs/client';
import { createClient } from '#libs/client';
import type { CliProcess } from './cli-process';
import { dataDirAt, type DataDir } from './data-dir';
import { findConnection, type Connection, type GlobalOptions } from './find-connection';
import { keepFlags } from './keep-flags';
import { createStyle, wantsColour, type Style } from './style';

/** One run of one command: its output, its orchestrator, its options. */
export interface Session {
  readonly process: CliProcess;
  readonly options: GlobalOptions;
  /** Found on first use: a command without an orchestrator must not fail over a token that it does not need. */
  readonly connection: Connection;
  readonly dataDir: DataDir;
  readonly client: BelayClient;
  readonly isJson: boolean;
  /** Colours for stdout and for stderr: one may be a terminal and the other a file. */
  readonly out: Style;
  readonly err: Style;
  /** Columns for tables on stdout; Infinity where it is not a terminal. */
  readonly width: number;
  /** Prints a line of the result on stdout. Silent with --json. Commands in the text get the flags that select this Belay. */
  print(text?: string): void;
  /** Prints an agent's line unchanged on stdout. Silent with --json. */
  printRaw(text: string): void;
  /** The same without a newline, also for bytes. */
  write(text: string | Uint8Array): void;
  /** Prints a line about progress or the next step on stderr. Silent with --json. */
  note(text: string): void;
  /** Prints the result as one line of JSON on stdout. */
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
      // Other processes of this user could read the token in this memory; one that opened it before still can.
      cli.closeToOthers();
      return (connection = findConnection(cli.cwd, cli.env, options));
    },
    dataDir: dataDirAt(cli.cwd, cli.env, options.dataDir),
    // Made on first use: `up`, `doctor` and help must work with an invalid address.
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
