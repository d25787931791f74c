import { BelayError } from '#libs/contracts';
import { formatDuration } from '../text/format';
import { cut } from '../text/width';
import { ChildProgram, describeExit, type ProgramSpec, type ReadyMessage } from './child-program';
import { describeLogLine } from './describe-log-line';

export interface SupervisorTuning {
  readonly readyMs: number;
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  /** After a run of at least this length a child starts again without delay. */
  readonly settledMs: number;
}

export const DEFAULT_TUNING: SupervisorTuning = {
  readyMs: 30_000,
  firstDelayMs: 500,
  maxDelayMs: 10_000,
  settledMs: 60_000,
};

/** The most columns of the child's last message. */
const LONGEST_WORDS = 240;
/** The message of a crash is searched in this many log lines. */
const CRASH_LINES = 100;

/** How a stop went: `drained` by itself and cleanly, `killed` when it did not end in time, `forced` otherwise. */
export type StopResult = 'drained' | 'forced' | 'killed';

/** Keeps one program running until it is stopped: reports an unexpected end and restarts the program. */
export class SupervisedProgram {
  private child: ChildProgram | undefined;
  private restart: NodeJS.Timeout | undefined;
  private stopping = false;
  private failures = 0;

  constructor(
    readonly spec: ProgramSpec,
    private readonly say: (line: string) => void,
    /** Called at every start, so that a new address becomes known. */
    private readonly onReady: (message: ReadyMessage) => void = () => undefined,
    private readonly tuning: SupervisorTuning = DEFAULT_TUNING,
  ) {}

  get pid(): number | undefined {
    return this.child?.isRunning === true ? this.child.pid : undefined;
  }

  /** The first start. A failure goes to the caller, with the last lines of the log. */
  async start(): Promise<ReadyMessage> {
    const child = new ChildProgram(this.spec);
    this.child = child;
    const ready = await child.ready(this.tuning.readyMs);
    if (ready !== undefined) {
      void this.restartAfter(child, performance.now());
      this.onReady(ready);
      return ready;
    }
    const why = await this.giveUpOn(child);
    throw new BelayError(
      'INTERNAL',
      [
        `${this.spec.name} did not start: ${why}. Its log ${this.spec.logFile} ends with:`,
        ...indent(child),
      ].join('\n'),
      { details: { log: this.spec.logFile } },
    );
  }

  /** Sends a message over its channel; lost where the program does not run. */
  tell(message: { readonly type: string }): void {
    if (this.child?.isRunning === true) this.child.tell(message);
  }

  /** SIGTERM, then up to `boundMs` for its drain, then SIGKILL. */
  async stop(boundMs: number): Promise<StopResult> {
    this.stopping = true;
    clearTimeout(this.restart);
    const { child } = this;
    if (child === undefined || !child.isRunning) return 'drained';
    child.signal('SIGTERM');
    const exit = await child.waitExit(boundMs);
    if (exit !== undefined) return exit.code === 0 ? 'drained' : 'forced';
    this.say(`${this.spec.name} did not end within ${formatDuration(boundMs)}: SIGKILL to pid ${child.pid}`);
    child.signal('SIGKILL');
    await child.waitExit(5_000);
    return 'killed';
  }

  /** SIGKILL now; a stop that waits sees the end. */
  force(): void {
    this.stopping = true;
    clearTimeout(this.restart);
    this.child?.signal('SIGKILL');
  }

  private async restartAfter(child: ChildProgram, from: number): Promise<void> {
    const exit = await child.exited;
    if (this.stopping) return;
    if (performance.now() - from > this.tuning.settledMs) this.failures = 0;
    this.scheduleRestart(describeExit(exit), child);
  }

  private scheduleRestart(why: string, child?: ChildProgram): void {
    const delayMs = Math.min(
      this.tuning.firstDelayMs * 2 ** Math.min(this.failures, 10),
      this.tuning.maxDelayMs,
    );
    this.failures++;
    const last = lastWords(child?.lastLines(CRASH_LINES) ?? []);
    const said = last === undefined ? '' : `; its last log line: ${last}`;
    this.say(
      `${this.spec.name} ended unexpectedly (${why}); starting it again in ${formatDuration(delayMs)}${said}`,
    );
    this.restart = setTimeout(() => void this.tryAgain(), delayMs);
  }

  private async tryAgain(): Promise<void> {
    let child: ChildProgram;
    try {
      child = new ChildProgram(this.spec);
    } catch (error) {
      // No log, descriptor or process is available now; a later try may succeed.
      return this.scheduleRestart(`it cannot be started: ${(error as Error).message}`);
    }
    this.child = child;
    const ready = await child.ready(this.tuning.readyMs);
    if (this.stopping) return;
    if (ready === undefined) return this.scheduleRestart(await this.giveUpOn(child), child);
    this.say(`${this.spec.name} is back (pid ${child.pid})`);
    void this.restartAfter(child, performance.now());
    this.onReady(ready);
  }

  /** Ends a child that did not become ready. Resolves with the reason in words. */
  private async giveUpOn(child: ChildProgram): Promise<string> {
    if (!child.isRunning) return describeExit(await child.exited);
    child.signal('SIGKILL');
    await child.waitExit(5_000);
    return `it was not ready within ${formatDuration(this.tuning.readyMs)}`;
  }
}

/**
 * The program's last message as text; undefined where it wrote nothing. For an error that ended it, Node writes the stack and
 * its own version below the message.
 */
function lastWords(lines: readonly string[]): string | undefined {
  const said = lines.filter((text) => text.trim() !== '');
  const last = said.at(-1);
  const line = last !== undefined && CRASH_END.test(last) ? (said.findLast(isMessage) ?? last) : last;
  return line === undefined ? undefined : cut(describeLogLine(line), LONGEST_WORDS);
}

/** The last line of a crash: of an uncaught error, or of the V8 engine. */
const CRASH_END = /^(?:Node\.js v\d|\s*\d+: 0x|----- Native stack trace)/;

/** `Error: ENOSPC: no space left on device, write`, `TypeError [ERR_X]: …`, `FATAL ERROR: Reached heap limit …` */
function isMessage(line: string): boolean {
  return /^(?:Uncaught )?(?:[\w$.]*(?:Error|Exception)(?: \[\w+\])?|FATAL ERROR)(?::|$)/.test(line);
}

function indent(child: ChildProgram): string[] {
  return child.lastLines().map((line) => `  ${describeLogLine(line)}`);
}
