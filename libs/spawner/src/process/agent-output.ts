import type { Readable, Writable } from 'node:stream';
import { MAX_MESSAGE_BYTES, parseAgentMessage } from '#libs/contracts';
import { AgentLog } from './agent-log';
import { LineReader, readLines } from './line-reader';
import type { SpawnRequest } from './process-host.types';
import { readShimFailure, type ShimFailure } from './start-process';

/** Longest line of stdout or stderr, characters. */
const MAX_LINE_LENGTH = 64 * 1024;
const CUT_MARKER = ' [belay: line cut]';
const BAD_LINE_SHOWN = 256;
const LOG_CLOSE_MS = 1_000;

type Sink = Pick<SpawnRequest, 'onOutput' | 'onMessage' | 'onBadLine' | 'logFile'>;

/** The pipes to an agent: stdout and stderr as lines and into the log, fd 3 as messages. */
export class AgentOutput {
  badLines = 0;
  #spoke = false;
  /** The first thing said, when it was the line of a shim that could not become the program. */
  #claim: { readonly line: string; readonly failure: ShimFailure } | undefined;
  readonly #log: AgentLog | undefined;
  readonly #closed: Promise<unknown>;
  #finished = false;

  constructor(
    private readonly streams: {
      stdin: Writable | undefined;
      stdout: Readable;
      stderr: Readable;
      messages: Readable;
    },
    private readonly sink: Sink,
    private readonly cookie: string,
    logCapBytes: number,
  ) {
    const { stdout, stderr, messages } = streams;
    if (sink.logFile !== undefined)
      this.#log = new AgentLog(sink.logFile, logCapBytes, () => {
        stdout.resume();
        stderr.resume();
      });
    this.#closed = Promise.all([stdout, stderr, messages].map(whenClosed));
    readLines(stdout, new LineReader(MAX_LINE_LENGTH, (line, cut) => this.#output('stdout', line, cut)));
    readLines(stderr, new LineReader(MAX_LINE_LENGTH, (line, cut) => this.#output('stderr', line, cut)));
    readLines(messages, new LineReader(MAX_MESSAGE_BYTES, (line, cut) => this.#message(line, cut)));
  }

  /**
   * Reads what is still in the pipes, at most `drainMs`: a process out of reach may hold them open for ever (R14).
   * After this no callback is called any more.
   */
  async finish(drainMs: number): Promise<void> {
    const { stdin, stdout, stderr, messages } = this.streams;
    stdin?.destroy(); // input that nobody read
    let timer: NodeJS.Timeout | undefined;
    const bound = new Promise((resolve) => (timer = setTimeout(resolve, drainMs)));
    await Promise.race([this.#closed, bound]);
    clearTimeout(timer);
    for (const stream of [stdout, stderr, messages]) stream.destroy();
    // Destroyed streams close in a later turn and hand out their last, unended line then.
    await this.#closed;
    this.#finished = true;
    await this.#log?.close(LOG_CLOSE_MS);
  }

  /**
   * Why the shim could not become the program, known once the output is finished. Only as the one thing ever said, and
   * with the exit code that goes with it: the program knows the cookie too, but what it says is no failure to start it.
   */
  startError(exitCode: number | null): string | undefined {
    if (this.#claim !== undefined && this.#claim.failure.exitCode !== exitCode) this.#disclaim();
    return this.#claim?.failure.message;
  }

  #disclaim(): void {
    const claim = this.#claim;
    this.#claim = undefined;
    if (claim !== undefined) this.#bad(claim.line);
  }

  #output(stream: 'stdout' | 'stderr', line: string, cut: boolean): void {
    if (this.#finished) return;
    // On stderr the shell itself may say why.
    if (stream === 'stdout') {
      this.#spoke = true;
      this.#disclaim();
    }
    const room = this.#log?.write(stream, line, cut) ?? true;
    // A slow disk slows the agent down instead of filling our memory.
    if (!room) {
      this.streams.stdout.pause();
      this.streams.stderr.pause();
    }
    guard(() => this.sink.onOutput(stream, cut ? line + CUT_MARKER : line));
  }

  #message(line: string, cut: boolean): void {
    if (this.#finished || line === '') return;
    const failure = this.#spoke ? undefined : readShimFailure(line, this.cookie);
    this.#spoke = true;
    this.#disclaim();
    if (failure !== undefined) {
      this.#claim = { line, failure };
      return;
    }
    const tooLong = cut || Buffer.byteLength(line) > MAX_MESSAGE_BYTES;
    const message = tooLong ? undefined : parseAgentMessage(line);
    if (message !== undefined) {
      guard(() => this.sink.onMessage(message));
      return;
    }
    this.#bad(line);
  }

  #bad(line: string): void {
    this.badLines += 1;
    guard(() => this.sink.onBadLine?.(line.slice(0, BAD_LINE_SHOWN)));
  }
}

function whenClosed(stream: Readable): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve));
}

/** A fault in a listener is the listener's: it must not end the worker or keep a stop from resolving. */
function guard(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.emitWarning(`A listener to an agent's output failed: ${what}`, { code: 'BELAY_OUTPUT_LISTENER' });
  }
}
