import { createWriteStream, type WriteStream } from 'node:fs';

/**
 * One agent's log file: `<ISO time> <stdout|stderr> <F|P> <line>` (P: the line was cut), up to a cap, then one line
 * that says so. A full disk or a vanished folder ends the log, never the agent; `fault` says why.
 */
export class AgentLog {
  readonly #file: WriteStream;
  #written = 0;
  #finished = false;
  fault: string | undefined;

  /** @param onDrain called when writing may go on after `write` answered false, and when the log has failed. */
  constructor(
    path: string,
    private readonly capBytes: number,
    onDrain: () => void,
  ) {
    this.#file = createWriteStream(path, { flags: 'a', mode: 0o600 });
    this.#file.on('drain', onDrain);
    this.#file.on('error', (error) => {
      this.fault = error.message;
      this.#finished = true;
      onDrain();
    });
  }

  /** @returns false when the reader should pause until `onDrain`. */
  write(stream: 'stdout' | 'stderr', line: string, cut: boolean): boolean {
    if (this.#finished) return true;
    const entry = `${new Date().toISOString()} ${stream} ${cut ? 'P' : 'F'} ${line}\n`;
    const bytes = Buffer.byteLength(entry);
    if (this.#written + bytes > this.capBytes) {
      this.#finished = true;
      const note = `the log was cut here: it reached its limit of ${this.capBytes} bytes`;
      return this.#file.write(`${new Date().toISOString()} belay F ${note}\n`);
    }
    this.#written += bytes;
    return this.#file.write(entry);
  }

  /** Resolves when all is handed to the system, or after `waitMs`. */
  close(waitMs: number): Promise<void> {
    this.#finished = true;
    return new Promise((resolve) => {
      const timer = setTimeout(done, waitMs);
      function done(): void {
        clearTimeout(timer);
        resolve();
      }
      this.#file.once('close', done);
      this.#file.end();
      if (this.#file.closed) done();
    });
  }
}
