import {
  isBelayError,
  MAX_CHECKPOINT_BYTES,
  MAX_EVENT_BYTES,
  MAX_PROGRESS_BYTES,
  type AgentMessage,
  type Dropped,
  type RecordedError,
  type SuspendRequest,
} from '#libs/contracts';
import type { AgentSaid, AgentStore, Fence, SaidNow, Spent } from '#libs/lifecycle';
import { Gather } from './gather';
import { Bucket } from './process';

/** Messages are gathered for this long before they are sent. Milliseconds. */
const GATHER_MS = 100;
/** One agent may leave this many bytes of events in its execution's stream over its life, each counted with its envelope. */
const EVENT_BYTES_EVER = 1024 * 1024;
const EVENT_COST = 200;
/** The rate of one agent's events, a second and at once. It counts events, not bytes. */
const EVENT_RATE = { perSecond: 100, burst: 1_000 };
/** Bounds of the queue and of one script call: an agent must not block the server, however much it writes. */
const WAITING_BYTES = 256 * 1024;
const BATCH_EVENTS = 100;
const BATCH_BYTES = 64 * 1024;
/** The rate of one agent's progress and checkpoints. After a large one the next waits, and then only the newest is sent. */
const VALUE_BYTES_PER_SECOND = 64 * 1024;
/** Far below the sum of costs at which a double is no exact number of micro-dollars. */
const MAX_USD = 1e9;
/** Far below the sum of tokens at which a double is no exact whole number. */
const MAX_TOKENS = 1e15;

type Value = { readonly value: unknown; readonly bytes: number };

/**
 * Gathers an agent's messages on fd 3 and reports them within its bounds. Costs are added up here; the store keeps the total.
 */
export class AgentReporter {
  costUsd = 0;
  /** A part of the cost is an estimate, by the agent's own report. */
  costEstimated = false;
  tokens = 0;
  result: unknown;
  /** The signal for which the node is to wait, by the agent's last message about it. */
  suspend: SuspendRequest | undefined;
  /** The cause of the coming failure, by the agent's last message about it. */
  error: RecordedError | undefined;
  private values: { progress?: Value; checkpoint?: Value } = {};
  private valuesFrom = 0;
  private events: { readonly said: SaidNow; readonly bytes: number }[] = [];
  private eventBytes = 0;
  private everBytes = 0;
  private count = 0;
  private badLines = 0;
  private readonly dropped: { -readonly [K in keyof Dropped]: Dropped[K] } = {};
  private droppedTold = 0;
  private isChanged = false;
  private isOver = false;
  private readonly rate = new Bucket(EVENT_RATE);
  private readonly gather = new Gather(async () => this.send());

  constructor(
    private readonly agents: Pick<AgentStore, 'report'>,
    private readonly fence: Fence,
    private readonly onError: (error: unknown) => void,
    private readonly onDropped: (what: keyof Dropped, count: number) => void = () => undefined,
  ) {}

  /** @param bytes the length of the line. */
  take(message: AgentMessage, bytes: number): void {
    switch (message.type) {
      case 'cost':
        this.costUsd = Math.min(this.costUsd + message.usd, MAX_USD);
        this.costEstimated ||= message.estimated === true;
        this.isChanged = true;
        break;
      case 'tokens':
        this.tokens = Math.min(this.tokens + message.count, MAX_TOKENS);
        this.isChanged = true;
        break;
      case 'progress':
        if (bytes > MAX_PROGRESS_BYTES) return this.drop({ progress: 1 });
        this.values.progress = { value: message.value, bytes };
        break;
      case 'checkpoint':
        if (bytes > MAX_CHECKPOINT_BYTES) return this.drop({ checkpoints: 1 });
        this.values.checkpoint = { value: message.value, bytes };
        break;
      case 'result':
        this.result = message.value;
        return;
      case 'suspend':
        this.suspend = { name: message.name, maxAgeMs: message.maxAgeMs };
        return;
      case 'error':
        this.error = { code: message.code, message: message.message };
        return;
      case 'event':
        this.takeEvent(message.name, message.data, bytes);
        break;
    }
    this.gather.touch(GATHER_MS);
  }

  countBadLine(): void {
    this.badLines++;
    this.isChanged = true;
    this.gather.touch(GATHER_MS);
  }

  /** Counts a message or output that is not kept. The next report tells it; the first time, an event does too. */
  drop(what: Dropped): void {
    for (const [name, count] of Object.entries(what) as [keyof Dropped, number][]) {
      this.dropped[name] = (this.dropped[name] ?? 0) + count;
      this.onDropped(name, count);
    }
    this.isChanged = true;
    if (this.droppedTold === 0) this.tellDropped();
    this.gather.touch(GATHER_MS);
  }

  /** Sends the remaining messages, and the totals of what was dropped. */
  async close(): Promise<void> {
    this.isOver = true;
    if (this.droppedInAll() > this.droppedTold) this.tellDropped();
    await this.gather.flush();
  }

  private droppedInAll(): number {
    return Object.values(this.dropped).reduce((sum, count) => sum + count, 0);
  }

  private tellDropped(): void {
    this.droppedTold = this.droppedInAll();
    this.events.push({ said: { n: ++this.count, dropped: { ...this.dropped } }, bytes: EVENT_COST });
    this.eventBytes += EVENT_COST;
  }

  private takeEvent(name: string, data: unknown, line: number): void {
    // The data is at most as long as its line, so the data need not be encoded to count its bytes.
    const bytes =
      data === undefined ? 0 : line > MAX_EVENT_BYTES ? Buffer.byteLength(JSON.stringify(data)) : line;
    const isCut = bytes > MAX_EVENT_BYTES;
    const size = EVENT_COST + (isCut ? 0 : bytes);
    const isOver =
      this.eventBytes + size > WAITING_BYTES ||
      this.everBytes + size > EVENT_BYTES_EVER ||
      this.rate.waitMs() > 0;
    if (isOver) return this.drop({ events: 1 });
    this.rate.take(1);
    this.eventBytes += size;
    this.everBytes += size;
    const kept = isCut ? { cutBytes: bytes } : data;
    const said = { n: ++this.count, name, ...(kept === undefined ? {} : { data: kept }) };
    this.events.push({ said, bytes: size });
  }

  /** Sends one report; at the end as many as are needed. */
  private async send(): Promise<void> {
    while (this.isChanged || this.events.length > 0 || this.hasValues()) {
      const values = this.takeValues();
      const events = this.takeEvents();
      // The rate may allow no value at this time.
      if (!this.isChanged && events.length === 0 && values === undefined) break;
      this.isChanged = false;
      try {
        await this.agents.report(this.fence, this.saidNow(values, events));
      } catch (error) {
        this.onError(error);
        // The next report repeats them; the server passes over a number that it knows.
        if (isBelayError(error) && error.code === 'OUTCOME_UNKNOWN') this.keep(values, events);
        else this.isChanged = false;
        break;
      }
      if (!this.isOver) break;
    }
    if (!this.isOver) this.sendLater();
  }

  private saidNow(values: AgentReporter['values'] | undefined, events: AgentReporter['events']): AgentSaid {
    return {
      ...(values?.progress === undefined ? {} : { progress: values.progress.value }),
      ...(values?.checkpoint === undefined ? {} : { checkpoint: values.checkpoint.value }),
      events: events.map(({ said }) => said),
      ...this.spent(),
      ...(this.badLines > 0 ? { badLines: this.badLines } : {}),
      ...(this.droppedInAll() > 0 ? { dropped: { ...this.dropped } } : {}),
    };
  }

  /** The totals that the agent has reported; a kind of cost that it never reported is absent. */
  spent(): Spent {
    return {
      ...(this.costUsd > 0 ? { costUsd: this.costUsd } : {}),
      ...(this.costEstimated ? { costEstimated: true } : {}),
      ...(this.tokens > 0 ? { tokens: this.tokens } : {}),
    };
  }

  private sendLater(): void {
    if (this.isChanged || this.events.length > 0) this.gather.touch(GATHER_MS);
    else if (this.hasValues())
      this.gather.touch(Math.max(GATHER_MS, Math.ceil(this.valuesFrom - performance.now())));
  }

  private hasValues(): boolean {
    return this.values.progress !== undefined || this.values.checkpoint !== undefined;
  }

  private takeValues(): AgentReporter['values'] | undefined {
    const now = performance.now();
    if (!this.hasValues() || (now < this.valuesFrom && !this.isOver)) return undefined;
    const { values } = this;
    const bytes = (values.progress?.bytes ?? 0) + (values.checkpoint?.bytes ?? 0);
    this.valuesFrom = now + (bytes * 1_000) / VALUE_BYTES_PER_SECOND;
    this.values = {};
    return values;
  }

  private takeEvents(): AgentReporter['events'] {
    let bytes = 0;
    let count = 0;
    while (count < Math.min(this.events.length, BATCH_EVENTS) && bytes < BATCH_BYTES)
      bytes += this.events[count++]?.bytes ?? 0;
    this.eventBytes -= bytes;
    return this.events.splice(0, count);
  }

  private keep(values: AgentReporter['values'] | undefined, events: AgentReporter['events']): void {
    this.values = { ...values, ...this.values };
    this.events = [...events, ...this.events];
    this.eventBytes += events.reduce((sum, { bytes }) => sum + bytes, 0);
    this.isChanged = true;
  }
}
