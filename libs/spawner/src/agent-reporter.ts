import type { AgentMessage } from '#libs/contracts';
import type { AgentSaid, AgentStore, Fence } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';

/** Lines kept per agent in Valkey; the worker's file has the rest. */
const LINES_KEPT = 1_000;
const LOG_TTL_MS = 8 * 24 * 3_600_000;
/** Reports and lines are gathered this long before they are sent. Milliseconds. */
const GATHER_MS = 100;
/** Lines gathered beyond this are dropped and counted: a chatty agent must not fill the worker's memory. */
const MAX_GATHERED = 2_000;

/** Sends at most one batch at a time, and one last batch at close. */
class Gather {
  private timer: NodeJS.Timeout | undefined;
  private sending: Promise<void> = Promise.resolve();

  constructor(private readonly send: () => Promise<void>) {}

  touch(): void {
    this.timer ??= setTimeout(() => void this.flush(), GATHER_MS);
  }

  flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.sending = this.sending.then(this.send);
    return this.sending;
  }
}

/** An agent's output as a bounded stream in Valkey, for `belay logs` from anywhere. */
export class AgentLog {
  private lines: [string, string][] = [];
  private dropped = 0;
  private readonly gather = new Gather(() => this.send());

  constructor(
    private readonly valkey: Valkey,
    private readonly executionId: string,
    private readonly agentId: string,
  ) {}

  write(stream: string, line: string): void {
    if (this.lines.length >= MAX_GATHERED) this.dropped++;
    else this.lines.push([stream, line]);
    this.gather.touch();
  }

  /** Sends what is left and marks the end, so that a follower stops. */
  async close(): Promise<void> {
    this.lines.push(['end', '']);
    await this.gather.flush();
  }

  private async send(): Promise<void> {
    const lines = this.lines.splice(0);
    if (this.dropped > 0)
      lines.push([
        'stderr',
        `belay: ${this.dropped} lines were dropped here; the worker's file may have them`,
      ]);
    this.dropped = 0;
    if (lines.length === 0) return;
    const key = this.valkey.keys.agentLog(this.executionId, this.agentId);
    const pipeline = this.valkey.redis.pipeline();
    for (const [stream, line] of lines)
      pipeline.xadd(key, 'MAXLEN', '~', LINES_KEPT, '*', 's', stream, 'l', line);
    pipeline.pexpire(key, LOG_TTL_MS);
    // Output is best effort while the server is away: the file on the worker is complete.
    await pipeline.exec().catch(() => undefined);
  }
}

/** What an agent says on fd 3, gathered and reported. Costs add up here; the store keeps the total. */
export class AgentReporter {
  costUsd = 0;
  result: unknown;
  private said: { progress?: unknown; checkpoint?: unknown } = {};
  private events: { n: number; name: string; data?: unknown }[] = [];
  private count = 0;
  private badLines = 0;
  private readonly gather = new Gather(() => this.send());

  constructor(
    private readonly agents: AgentStore,
    private readonly fence: Fence,
    private readonly onError: (error: unknown) => void,
  ) {}

  take(message: AgentMessage): void {
    switch (message.type) {
      case 'cost':
        this.costUsd += message.usd;
        break;
      case 'progress':
      case 'checkpoint':
        this.said[message.type] = message.value;
        break;
      case 'result':
        this.result = message.value;
        return;
      case 'event':
        if (this.events.length < MAX_GATHERED) {
          this.events.push({
            n: ++this.count,
            name: message.name,
            ...(message.data === undefined ? {} : { data: message.data }),
          });
        }
        break;
    }
    this.gather.touch();
  }

  countBadLine(): void {
    this.badLines++;
    this.gather.touch();
  }

  async close(): Promise<void> {
    await this.gather.flush();
  }

  private async send(): Promise<void> {
    const said: AgentSaid = {
      ...this.said,
      events: this.events,
      ...(this.costUsd > 0 ? { costUsd: this.costUsd } : {}),
      ...(this.badLines > 0 ? { badLines: this.badLines } : {}),
    };
    if (Object.keys(said).length === 1 && this.events.length === 0) return;
    this.said = {};
    this.events = [];
    await this.agents.report(this.fence, said).catch(this.onError);
  }
}
