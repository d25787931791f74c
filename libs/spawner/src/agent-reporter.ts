import { MAX_EVENT_BYTES, type AgentMessage } from '#libs/contracts';
import type { AgentSaid, AgentStore, Fence } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';

/** Lines kept per agent in Valkey; the worker's file has the rest. */
const LINES_KEPT = 1_000;
const LOG_TTL_MS = 8 * 24 * 3_600_000;
/** Reports and lines are gathered this long before they are sent. Milliseconds. */
const GATHER_MS = 100;
/** What is gathered beyond this is dropped and counted: a chatty agent must not fill the worker's memory. */
const MAX_GATHERED = 2_000;
/** Bytes of one batch: one script call or pipeline must not hold the server, whatever an agent says. */
const MAX_BATCH_BYTES = 256 * 1024;
/** Characters of a line kept in Valkey; the worker's file has the whole. */
const MAX_LINE = 4_096;
/** Bytes of events one agent may leave in its execution's stream over its life. */
const MAX_EVENT_BYTES_EVER = 1024 * 1024;
/** A sum of costs stays far below where a double is no whole number of micro-dollars. */
const MAX_USD = 1e9;

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
  private bytes = 0;
  private dropped = 0;
  private readonly gather = new Gather(() => this.send());

  constructor(
    private readonly valkey: Valkey,
    private readonly executionId: string,
    private readonly agentId: string,
  ) {}

  write(stream: string, line: string): void {
    const kept = line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)} [belay: line cut]` : line;
    if (this.lines.length >= MAX_GATHERED || this.bytes + kept.length > MAX_BATCH_BYTES) this.dropped++;
    else {
      this.lines.push([stream, kept]);
      this.bytes += kept.length;
    }
    this.gather.touch();
  }

  /** Sends what is left and marks the end, so that a follower stops. */
  async close(): Promise<void> {
    this.lines.push(['end', '']);
    await this.gather.flush();
  }

  private async send(): Promise<void> {
    const lines = this.lines.splice(0);
    this.bytes = 0;
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
  private batchBytes = 0;
  private everBytes = 0;
  private droppedEvents = 0;
  private readonly gather = new Gather(() => this.send());

  constructor(
    private readonly agents: AgentStore,
    private readonly fence: Fence,
    private readonly onError: (error: unknown) => void,
  ) {}

  take(message: AgentMessage): void {
    switch (message.type) {
      case 'cost':
        this.costUsd = Math.min(this.costUsd + message.usd, MAX_USD);
        break;
      case 'progress':
      case 'checkpoint':
        this.said[message.type] = message.value;
        break;
      case 'result':
        this.result = message.value;
        return;
      case 'event':
        this.takeEvent(message.name, message.data);
        break;
    }
    this.gather.touch();
  }

  private takeEvent(name: string, data: unknown): void {
    const bytes = data === undefined ? 0 : Buffer.byteLength(JSON.stringify(data));
    const kept = bytes > MAX_EVENT_BYTES ? { cutBytes: bytes } : data;
    const size = 200 + Math.min(bytes, MAX_EVENT_BYTES);
    const full = this.events.length >= MAX_GATHERED || this.batchBytes + size > MAX_BATCH_BYTES;
    if (full || this.everBytes + size > MAX_EVENT_BYTES_EVER) {
      this.droppedEvents++;
      return;
    }
    this.batchBytes += size;
    this.everBytes += size;
    this.events.push({ n: ++this.count, name, ...(kept === undefined ? {} : { data: kept }) });
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
      ...(this.droppedEvents > 0 ? { droppedEvents: this.droppedEvents } : {}),
    };
    if (Object.keys(said).length === 1 && this.events.length === 0) return;
    this.said = {};
    this.events = [];
    this.batchBytes = 0;
    await this.agents.report(this.fence, said).catch(this.onError);
  }
}
