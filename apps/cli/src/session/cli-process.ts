/** One output stream of the command. */
export interface Terminal {
  readonly isTTY: boolean;
  /** Columns and rows of the terminal; 80 by 24 where they are unknown. */
  readonly columns: number;
  readonly rows: number;
  write(text: string | Uint8Array): void;
}

/** The parts of its process that the command uses; tests pass others. */
export interface CliProcess {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly stdout: Terminal;
  readonly stderr: Terminal;
  readonly stdin: NodeJS.ReadableStream;
  readonly stdinIsTTY: boolean;
  /** Aborts when nobody reads stdout any more (`belay ps | head`). */
  readonly outputClosed: AbortSignal;
  /** One line from the terminal; undefined when the terminal was closed. */
  ask(question: string): Promise<string | undefined>;
  /** Calls the listener on SIGINT, SIGTERM and SIGHUP until the returned function is called. */
  onSignal(listener: (signal: NodeJS.Signals) => void): () => void;
  /**
   * Closes the process to others of its user, before it reads a secret. Repeatable.
   * @returns why it failed; undefined when it succeeded.
   */
  closeToOthers(): string | undefined;
  /** Ends the process now: only for a second Ctrl-C. */
  exit(code: number): void;
}
