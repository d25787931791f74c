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
import type { AgentSaid, AgentStore, Fence, SaidNow } from '#libs/lifecycle';
import { Gather } from './gather';
import { Bucket } from './process';

/** Reports are gathered this long before they are sent. Milliseconds. */
const GATHER_MS = 100;
/** Bytes of events one agent may leave in its execution's stream over its life, each counted with what is around it. */
const EVENT_BYTES_EVER = 1024 * 1024;
const EVENT_COST = 200;
/** Events of one agent, a second and at once. Counted, not bytes. */
const EVENT_RATE = { perSecond: 100, burst: 1_000 };
/** Bounds of the queue and of one script call: it must not hold the server, however much an agent writes. */
const WAITING_BYTES = 256 * 1024;
const BATCH_EVENTS = 100;
const BATCH_BYTES = 64 * 1024;
/** Progress and checkpoints of one agent: after a large one the next waits; the last one said is what is sent then. */
const VALUE_BYTES_PER_SECOND = 64 * 1024;
/** A sum of costs stays far below where a double is no whole number of micro-dollars. */
const MAX_USD = 1e9;

type Value = { readonly value: unknown; readonly bytes: number };

/** Gathers an agent's messages on fd 3 and reports them within its bounds. Costs add up here; the store keeps the total. */
export class AgentReporter {
  costUsd = 0;
  result: unknown;
  /** The signal that its node is to wait for; the last one said. */
  suspend: SuspendRequest | undefined;
  /** Why it is about to fail; the last one said. */
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

  /** @param bytes of the line. */
  take(message: AgentMessage, bytes: number): void {
    switch (message.type) {
      case 'cost':
        this.costUsd = Math.min(this.costUsd + message.usd, MAX_USD);
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

  /** Something the agent said or wrote is not kept: told with the next report, and by an event when it is the first. */
  drop(what: Dropped): void {
    for (const [name, count] of Object.entries(what) as [keyof Dropped, number][]) {
      this.dropped[name] = (this.dropped[name] ?? 0) + count;
      this.onDropped(name, count);
    }
    this.isChanged = true;
    if (this.droppedTold === 0) this.tellDropped();
    this.gather.touch(GATHER_MS);
  }

  /** Sends what is left, and what was dropped in all. */
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
    // The data is at most as long as its line, which saves writing it down to count.
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

  /** One report; at the end as many as there are. */
  private async send(): Promise<void> {
    while (this.isChanged || this.events.length > 0 || this.hasValues()) {
      const values = this.takeValues();
      const events = this.takeEvents();
      // A value alone may have to wait for its time.
      if (!this.isChanged && events.length === 0 && values === undefined) break;
      this.isChanged = false;
      try {
        await this.agents.report(this.fence, this.saidNow(values, events));
      } catch (error) {
        this.onError(error);
        // Said again with the next report; a number that the server knows is passed over there.
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
      ...(this.costUsd > 0 ? { costUsd: this.costUsd } : {}),
      ...(this.badLines > 0 ? { badLines: this.badLines } : {}),
      ...(this.droppedInAll() > 0 ? { dropped: { ...this.dropped } } : {}),
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
