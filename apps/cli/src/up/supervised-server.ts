import { isBelayError } from '#libs/contracts';
import { cleanText } from '../text/clean-text';
import { count, formatDuration } from '../text/format';
import { cut } from '../text/width';
import type { StateServer } from './local-server';

export interface ServerTuning {
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  /** Starts in a row before `up` gives up. */
  readonly tries: number;
  /** After a run of at least this length the tries count anew. */
  readonly settledMs: number;
  /** The bound on its stop, before SIGKILL. */
  readonly stopMs: number;
}

/** The most columns of a reason. */
const LONGEST_WHY = 300;

const DEFAULT_TUNING: ServerTuning = {
  firstDelayMs: 500,
  maxDelayMs: 8_000,
  tries: 6,
  settledMs: 60_000,
  stopMs: 15_000,
};

/**
 * Keeps the state server running that this `up` started: reports an unexpected end and starts the server again on the same
 * data, also during the drain of the others. For a server that somebody else runs it only has the address.
 */
export class SupervisedServer {
  private stopping = false;
  private doing: 'runs' | 'ended' | 'lost' = 'runs';
  private waking: (() => void) | undefined;

  constructor(
    private readonly server: StateServer,
    private readonly say: (line: string) => void,
    private readonly tuning: ServerTuning = DEFAULT_TUNING,
  ) {}

  /** Begins to watch the server. */
  keep(): this {
    const { revive } = this.server;
    if (revive !== undefined) void this.watch(revive);
    return this;
  }

  /** Whether the server is down and being started again. */
  get isComing(): boolean {
    return this.doing === 'ended';
  }

  /** Whether `up` gave it up. */
  get isLost(): boolean {
    return this.doing === 'lost';
  }

  /** For a person who waits: `the state server (pid 5)`, or the present step of its restart. */
  describe(): string {
    const { pid } = this.server;
    if (this.doing === 'ended') return 'the state server (it is being started again)';
    return pid === undefined || this.doing === 'lost' ? 'the state server' : `the state server (pid ${pid})`;
  }

  /** Ends the server, with its data written out. False when it did not end in time and was killed. */
  async stop(): Promise<boolean> {
    this.stopping = true;
    this.waking?.();
    const { stopMs } = this.tuning;
    const isDown = await bounded(this.server.stop(), stopMs);
    if (!isDown) {
      const { pid } = this.server;
      const killed = pid === undefined ? '' : `: SIGKILL to pid ${pid}`;
      this.say(`the state server did not end within ${formatDuration(stopMs)}${killed}`);
      this.force();
    }
    return isDown;
  }

  /** SIGKILL to the server that this `up` started. */
  force(): void {
    this.stopping = true;
    this.waking?.();
    const { pid, revive } = this.server;
    if (pid === undefined || revive === undefined) return;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // The server is gone.
    }
  }

  private async watch(revive: () => Promise<void>): Promise<void> {
    let tries = 0;
    for (;;) {
      const from = performance.now();
      await this.server.exited;
      if (this.stopping) return;
      if (performance.now() - from > this.tuning.settledMs) tries = 0;
      this.doing = 'ended';
      let what = 'ended unexpectedly';
      let why = 'it ended again soon after each start';
      while (this.doing === 'ended') {
        if (tries >= this.tuning.tries) return this.giveUp(why);
        const delayMs = Math.min(this.tuning.firstDelayMs * 2 ** tries, this.tuning.maxDelayMs);
        tries++;
        this.say(`state server ${what}; starting it again in ${formatDuration(delayMs)}, with its data`);
        await this.pause(delayMs);
        if (this.isStopping()) return;
        try {
          await revive();
          this.doing = 'runs';
        } catch (error) {
          why = errorMessage(error);
          what = `did not start (${why})`;
        }
        if (this.isStopping()) return;
      }
      const { pid } = this.server;
      this.say(`state server is back${pid === undefined ? '' : ` (pid ${pid})`}`);
    }
  }

  /** Read again after each wait. */
  private isStopping(): boolean {
    return this.stopping;
  }

  private giveUp(why: string): void {
    this.doing = 'lost';
    const { log } = this.server;
    const look = log === undefined ? '' : ` Look into ${log}.`;
    this.say(
      `state server cannot be brought back after ${count(this.tuning.tries, 'try', 'tries')}: ${why}.${look}`,
    );
    this.say(
      'Nothing can be started or stopped over the orchestrator now. Ctrl-C here ends the agents of this machine, ' +
        'and so does: belay kill --local --all. Then start anew with: belay up',
    );
  }

  /** Ends early when the server is stopped. */
  private async pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.waking = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.waking = undefined;
  }
}

/** The first line of an error, without its full stop. */
function errorMessage(error: unknown): string {
  const message = isBelayError(error) || error instanceof Error ? error.message : String(error);
  const first = (message.split('\n')[0] ?? '').replace(/ Its last lines:$/, '');
  return cut(cleanText(first.replace(/\.$/, '')), LONGEST_WHY);
}

/** Whether it resolved in time; a rejection counts as no. */
async function bounded(work: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      work.then(
        () => true,
        () => false,
      ),
      new Promise<boolean>((resolve) => {
        timer = setTimeout(() => resolve(false), ms);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}
