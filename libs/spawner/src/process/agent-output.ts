import type { Readable, Writable } from 'node:stream';
import { MAX_MESSAGE_BYTES, parseAgentMessage } from '#libs/contracts';
import { AgentLog } from './agent-log';
import { LineSplitter, type PieceEnd } from './line-splitter';
import { PacedReader } from './paced-reader';
import type { OutputPiece, SpawnRequest } from './process-host.types';
import { Bucket, ReadPace, type Rate } from './read-pace';
import { readInit } from './namespace';
import type { PidStart } from './proc-stat';
import { isShimBegun, readShimFailure, type ShimFailure } from './start-process';

/** The longest piece of a line of stdout or stderr. Bytes. */
const MAX_PIECE_BYTES = 64 * 1024;
const BAD_LINE_SHOWN = 256;
const LOG_CLOSE_MS = 1_000;
const MIB = 1024 * 1024;
const UNPREPARED: Omit<ShimFailure, 'exitCode'> = {
  message: 'the isolation of the agent could not be prepared, so the command was not run',
  code: 'ISOLATION',
};
const NO_NAMESPACE: Omit<ShimFailure, 'exitCode'> = {
  message: 'the PID namespace of the agent could not be made, so the command was not run',
  code: 'NAMESPACE',
};
const UNREAD: Omit<ShimFailure, 'exitCode'> = {
  message: 'the process started ahead for the attempt ended before the attempt began',
};

/** The rate of one agent: of its stdout and stderr together, and of its fd 3. */
const OUTPUT_RATE: Rate = { perSecond: 4 * MIB, burst: 4 * MIB };
const MESSAGE_RATE: Rate = { perSecond: MIB, burst: 2 * MIB };
/** The rates of all agents of a worker. Messages are parsed, so they cost the most. */
const ALL_OUTPUT_RATE: Rate = { perSecond: 8 * MIB, burst: 8 * MIB };
const ALL_MESSAGES_RATE: Rate = { perSecond: 4 * MIB, burst: 8 * MIB };

/** The rates that the pipes of a worker's agents share. */
export interface OutputPaces {
  readonly output: ReadPace;
  readonly messages: ReadPace;
}

export function makeOutputPaces(): OutputPaces {
  return { output: new ReadPace(ALL_OUTPUT_RATE), messages: new ReadPace(ALL_MESSAGES_RATE) };
}

type Sink = Pick<SpawnRequest, 'onOutput' | 'onMessage' | 'onBadLine' | 'logFile'> & {
  /**
   * For a process that waits to become an agent: called when it reports that it waits. Until `assign` nothing else is read from
   * it.
   */
  readonly onReady?: () => void;
};

/** The reports that a start gives on fd 3 before the command runs. */
export interface StartReports {
  readonly isIsolated?: boolean;
  /** For an agent with a PID namespace of its own: called once, with its init, or without when there is none. */
  readonly onInit?: (init: PidStart | undefined) => void;
}

/** The pipes of an agent: stdout and stderr as lines and into the log, fd 3 as messages, each at a bounded rate. */
export class AgentOutput {
  badLines = 0;
  #spoke = false;
  /** Whether the shell in front of an isolated command runs, or a process that waited has read its attempt. */
  #begun: boolean;
  /** The failure if the process never reported that. */
  #unbegun = UNPREPARED;
  readonly #isIsolated: boolean;
  /** The first line on fd 3, if it came from a shim that could not become the program. */
  #claim: { readonly line: string; readonly failure: ShimFailure } | undefined;
  /** The beginning of a line of fd 3 that is longer than a message may be. */
  #overlong: Buffer | undefined;
  #log: AgentLog | undefined;
  readonly #readers: readonly PacedReader[];
  readonly #talk: readonly PacedReader[];
  /** Present until the first line of fd 3, which is the report of init or was written without one. */
  #onInit: StartReports['onInit'];
  #finished = false;

  constructor(
    private readonly streams: {
      stdin: Writable | undefined;
      stdout: Readable;
      stderr: Readable;
      messages: Readable;
    },
    private sink: Sink,
    private readonly cookie: string,
    paces: OutputPaces,
    private readonly logCapBytes: number,
    { isIsolated = false, onInit }: StartReports = {},
  ) {
    this.#begun = !isIsolated && onInit === undefined;
    this.#isIsolated = isIsolated;
    this.#onInit = onInit;
    if (onInit !== undefined) this.#unbegun = NO_NAMESPACE;
    const { stdout, stderr, messages } = streams;
    const bucket = new Bucket(OUTPUT_RATE);
    const lines = (stream: 'stdout' | 'stderr'): LineSplitter =>
      new LineSplitter(MAX_PIECE_BYTES, (bytes, end) =>
        this.#output({ stream, bytes, ends: end === 'newline' }),
      );
    const said = new LineSplitter(MAX_MESSAGE_BYTES, (bytes, end) => this.#line(bytes, end));
    this.#talk = [
      new PacedReader(stdout, lines('stdout'), paces.output, bucket),
      new PacedReader(stderr, lines('stderr'), paces.output, bucket),
    ];
    const talked = new PacedReader(messages, said, paces.messages, new Bucket(MESSAGE_RATE));
    this.#readers = [...this.#talk, talked];
    // Without any line there is no init.
    if (onInit !== undefined) void talked.done.then(() => this.#init(''));
    this.#openLog();
    // The pipes keep the output for the agent that the process will become.
    if (sink.onReady !== undefined) for (const reader of this.#talk) reader.hold();
  }

  /** Makes the process an agent's, and gives it the input. Its output so far, which nobody has read, is the agent's too. */
  assign(sink: Sink, input: string): void {
    this.sink = sink;
    this.#begun = false;
    this.#unbegun = UNREAD;
    this.streams.stdin?.end(input);
    this.#openLog();
    for (const reader of this.#talk) reader.release();
  }

  #openLog(): void {
    const { logFile } = this.sink;
    if (logFile === undefined) return;
    this.#log = new AgentLog(logFile, this.logCapBytes, () => {
      for (const reader of this.#talk) reader.release();
    });
  }

  /** Bytes of output that are in no file: beyond the cap of one log, or refused by the disk. */
  get lostBytes(): number {
    return this.#log?.lostBytes ?? 0;
  }

  /**
   * Reads the rest of the pipes. For at most `drainMs` it also reads from a process out of reach that may keep them open for
   * ever. After this no callback is called any more.
   */
  async finish(drainMs: number): Promise<void> {
    this.streams.stdin?.destroy(); // input that nobody read
    for (const reader of this.#readers) reader.hurry();
    const done = Promise.all(this.#readers.map(async (reader) => reader.done));
    let timer: NodeJS.Timeout | undefined;
    const bound = new Promise((resolve) => (timer = setTimeout(resolve, drainMs)));
    await Promise.race([done, bound]);
    clearTimeout(timer);
    for (const reader of this.#readers) reader.close();
    // Closed streams report that in a later turn. Only then is the rest handed on, with a last line that has no newline.
    await done;
    this.#finished = true;
    await this.#log?.close(LOG_CLOSE_MS);
  }

  /**
   * Why the shim could not become the program, known once the output is finished. Counts only if it is the only line and the
   * exit code fits: the program knows the cookie too, but its own lines are no failure of its start.
   */
  startError(exitCode: number | null): ShimFailure | undefined {
    if (!this.#begun && this.#claim === undefined) return { ...this.#unbegun, exitCode: exitCode ?? 126 };
    if (this.#claim !== undefined && this.#claim.failure.exitCode !== exitCode) this.#disclaim();
    return this.#claim?.failure;
  }

  #disclaim(): void {
    const claim = this.#claim;
    this.#claim = undefined;
    if (claim !== undefined) this.#bad(claim.line);
  }

  #output(piece: OutputPiece): void {
    if (this.#finished) return;
    // On stderr the shell itself may say why. The output of a process that still waits does not belong to the attempt.
    if (piece.stream === 'stdout' && (this.#begun || this.#unbegun !== UNREAD)) {
      this.#spoke = true;
      this.#disclaim();
    }
    const room = this.#log?.write(piece) ?? true;
    // A slow disk slows the agent down, and does not fill this process's memory.
    if (!room) for (const reader of this.#talk) reader.hold();
    guard(() => this.sink.onOutput(piece));
  }

  #line(bytes: Buffer, end: PieceEnd): void {
    if (this.#finished) return;
    if (this.#onInit !== undefined) return this.#init(bytes.toString());
    const { onReady } = this.sink;
    if (onReady !== undefined) {
      if (bytes.toString() === `${this.cookie} ready`) guard(onReady);
      return;
    }
    if (end === 'limit') this.#overlong ??= bytes.subarray(0, BAD_LINE_SHOWN);
    else if (this.#overlong === undefined) this.#message(bytes);
    else {
      const line = this.#overlong;
      this.#overlong = undefined;
      this.#spoke = true;
      this.#disclaim();
      this.#bad(line.toString());
    }
  }

  /** Only the first line counts: the command may write the same later. */
  #init(line: string): void {
    const onInit = this.#onInit;
    this.#onInit = undefined;
    const init = readInit(line, this.cookie);
    if (init !== undefined && this.#isIsolated) this.#unbegun = UNPREPARED;
    onInit?.(init);
  }

  #message(bytes: Buffer): void {
    if (bytes.length === 0) return;
    const line = bytes.toString();
    if (!this.#begun && isShimBegun(line, this.cookie)) {
      this.#begun = true;
      return;
    }
    const failure = this.#spoke ? undefined : readShimFailure(line, this.cookie);
    this.#spoke = true;
    this.#disclaim();
    if (failure !== undefined) {
      this.#claim = { line, failure };
      return;
    }
    const message = parseAgentMessage(line);
    if (message === undefined) this.#bad(line);
    else guard(() => this.sink.onMessage(message, bytes.length));
  }

  #bad(line: string): void {
    this.badLines += 1;
    guard(() => this.sink.onBadLine?.(line.slice(0, BAD_LINE_SHOWN)));
  }
}

/** A fault in a listener must not end the worker, or keep a stop from resolving. */
function guard(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.emitWarning(`A listener to an agent's output failed: ${what}`, { code: 'BELAY_OUTPUT_LISTENER' });
  }
}
