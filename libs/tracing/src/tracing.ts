import {
  formatTraceparent,
  parseAgentId,
  type AgentRecord,
  type BelayEvent,
  type Receipt,
} from '#libs/contracts';
import type { Accepted, AttemptEnds, ExecutionManager } from '#libs/executions';
import type { OrderStore } from '#libs/killswitch';
import type { Fence, LifecycleService } from '#libs/lifecycle';
import type { TraceCarrier } from '#libs/spawner';
import type { ChangeFeed, Valkey } from '#libs/valkey';
import type { Subscription } from 'rxjs';
import { spanOfKill, spanOfSubmit, spansOfAttempt } from './make-spans';
import { SpanExporter, type ExporterOptions } from './span-exporter';
import { contextOfAttempt, traceOf, type ExecutionTrace } from './trace-ids';

/** Ends whose records wait to be read. Further ones are dropped. */
const MOST_ENDS = 10_000;
/** Records read at a time. */
const READ = 100;
/** Executions of one order that get a span. */
const MOST_KILLED = 100;
/** Orders whose receipts wait to be read. Further ones are dropped. */
const MOST_ORDERS = 100;
/** The states in which an order's receipt is worth a span: from each, none or one of the others follows. */
const SETTLED = new Set(['order.complete', 'order.incomplete', 'order.closed']);
/** Each orchestrator hears of an order; the first that asks makes its spans. Milliseconds. */
const TAKEN_MS = 600_000;

/**
 * The traces of one process (docs/observability.md). It watches what the process stores and hears, reads the records, and sends
 * spans with the records' times. It decides nothing: no agent, end or order waits for it.
 */
export class Tracing implements TraceCarrier {
  readonly exporter: SpanExporter;
  private readonly watched: Subscription[] = [];
  private ends: string[] = [];
  private orders = 0;
  /** Reads under way. */
  private readonly work = new Set<Promise<void>>();
  private isReading = false;

  constructor(
    private readonly valkey: Valkey,
    options: ExporterOptions,
  ) {
    this.exporter = new SpanExporter(options);
  }

  /** Makes a span of each submit that creates an execution, and keeps its caller's place. */
  watchSubmits(manager: Pick<ExecutionManager, 'accepted$'>): void {
    this.watched.push(
      manager.accepted$.subscribe(({ execution, traceparent, tookMs }: Accepted) => {
        const trace = traceOf(execution.id, traceparent);
        if (trace.isSampled) this.exporter.add([spanOfSubmit(trace, execution, tookMs)]);
      }),
    );
  }

  /** Makes the spans of each attempt whose end this process stores: its own, and those of a worker that was lost. */
  watchEnds(ends: Pick<AttemptEnds, 'ended$'>, { agents }: Pick<LifecycleService, 'agents'>): void {
    this.watched.push(
      ends.ended$.subscribe(({ agentId }: Fence) => {
        if (this.ends.length >= MOST_ENDS) return this.exporter.drop(1);
        this.ends.push(agentId);
        if (!this.isReading) this.track(this.readEnds(agents));
      }),
    );
  }

  /** Makes the spans of each kill whose receipt is settled. */
  watchOrders({ events$ }: Pick<ChangeFeed, 'events$'>, orders: Pick<OrderStore, 'receipt'>): void {
    this.watched.push(
      events$.subscribe(({ type, data, at }: BelayEvent) => {
        const orderId = (data as { orderId?: unknown } | undefined)?.orderId;
        // Anybody may have sent the message.
        if (!SETTLED.has(type) || typeof orderId !== 'string' || !Number.isFinite(at)) return;
        if (this.orders >= MOST_ORDERS) return this.exporter.drop(1);
        this.orders++;
        this.track(this.readOrder(orders, orderId, type, at).finally(() => this.orders--));
      }),
    );
  }

  /** `TRACEPARENT`, whose parent span is the attempt's. */
  async variables({ agentId }: Fence): Promise<Readonly<Record<string, string>>> {
    try {
      const [trace] = await this.tracesOf([executionIdOf(agentId)]);
      return { TRACEPARENT: formatTraceparent(contextOfAttempt(trace as ExecutionTrace, agentId)) };
    } catch {
      // The agent must not wait for a server that is away.
      return {};
    }
  }

  /** Makes and sends the spans that wait, within `boundMs`. Never rejects. */
  async close(boundMs: number): Promise<void> {
    for (const one of this.watched) one.unsubscribe();
    const began = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, boundMs / 2)));
    await Promise.race([Promise.all(this.work), limit]);
    clearTimeout(timer);
    await this.exporter.close(Math.max(0, boundMs - (performance.now() - began)));
  }

  private track(work: Promise<void>): void {
    const tracked = work.finally(() => this.work.delete(tracked));
    this.work.add(tracked);
  }

  private async readEnds(agents: LifecycleService['agents']): Promise<void> {
    this.isReading = true;
    // All ends of this turn of the event loop are read at once.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.ends.length > 0) {
      const ids = this.ends.splice(0, READ);
      try {
        const records = await agents.many(ids);
        const traces = await this.tracesOf(records.map(({ executionId }) => executionId));
        for (const [i, record] of records.entries()) this.addAttempt(traces[i] as ExecutionTrace, record);
      } catch {
        this.exporter.drop(ids.length);
      }
    }
    this.isReading = false;
  }

  private addAttempt(trace: ExecutionTrace, record: AgentRecord): void {
    if (trace.isSampled) this.exporter.add(spansOfAttempt(trace, record));
  }

  private async readOrder(
    orders: Pick<OrderStore, 'receipt'>,
    orderId: string,
    state: string,
    at: number,
  ): Promise<void> {
    try {
      const { redis, keys } = this.valkey;
      const key = keys.traced(orderId, state);
      if ((await redis.set(key, '1', 'PX', TAKEN_MS, 'NX')) === null) return;
      const receipt = await orders.receipt(orderId);
      if (receipt.order.kind === 'kill') await this.addKill(receipt, at);
    } catch {
      this.exporter.drop(1);
    }
  }

  private async addKill(receipt: Receipt, at: number): Promise<void> {
    const hit = [
      ...new Set([...receipt.targets.map(({ executionId }) => executionId), ...(receipt.executions ?? [])]),
    ];
    const ids = hit.slice(0, MOST_KILLED);
    this.exporter.drop(hit.length - ids.length);
    const traces = await this.tracesOf(ids);
    for (const [i, id] of ids.entries()) {
      const trace = traces[i] as ExecutionTrace;
      if (trace.isSampled) this.exporter.add([spanOfKill(trace, id, receipt, at)]);
    }
  }

  /** One command for each execution. */
  private async tracesOf(executionIds: readonly string[]): Promise<ExecutionTrace[]> {
    const { redis, keys } = this.valkey;
    const known = new Map<string, Promise<ExecutionTrace>>();
    const read = async (id: string): Promise<ExecutionTrace> =>
      traceOf(id, (await redis.hget(keys.execution(id), 'traceparent')) ?? undefined);
    return Promise.all(
      executionIds.map(async (id) => {
        const trace = known.get(id) ?? read(id);
        known.set(id, trace);
        return trace;
      }),
    );
  }
}

const executionIdOf = (agentId: string): string => parseAgentId(agentId)?.executionId ?? '';
