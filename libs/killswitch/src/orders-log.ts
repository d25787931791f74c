import { BelayError } from '#libs/contracts';
import { within } from '#libs/service';
import { isBefore, timeOf } from './log-position';
import type { HeldOrder } from './order-reads';
import type { OrderStore } from './order-store';

/** A log that lost its end is read again from this far back, since its clock may be another machine's. Milliseconds. */
const REWIND_MS = 60_000;

/** One reading of the log may take this long before it is abandoned; the next heartbeat begins another. Milliseconds. */
const READ_MS = 5_000;

/** Orders that failed to be obeyed are retried with each heartbeat: at most this many, and this often. */
const MAX_FAILED = 100;
const MOST_TRIES = 60;

/** The options of a worker's reading of the orders log. */
export interface OrdersLogOptions {
  /** Obeys an order. Returns the number of agents that it began with at once. May throw. */
  readonly apply: (held: HeldOrder) => number;
  readonly onError: (error: unknown) => void;
  /** One reading of the log may take this long. Milliseconds; default 5,000. */
  readonly readMs?: number | undefined;
}

/** A worker's cursor in the orders log: every order before it was obeyed, or is being retried. */
export class OrdersLog {
  private cursor = '0-0';
  private catching: Promise<void> | undefined;
  /** Orders of the log that failed to be obeyed, with the number of tries. */
  private readonly failed = new Map<string, { readonly held: HeldOrder; readonly tries: number }>();
  /** Agents reached by orders that were read from the log. */
  caughtUp = 0;

  constructor(
    private readonly orders: OrderStore,
    private readonly options: OrdersLogOptions,
  ) {}

  /** Sets the cursor to that head. */
  begin(head: string): void {
    this.cursor = head;
  }

  /** Takes the head of the log from a heartbeat. A head before the cursor means that a failover lost the log's end. */
  async notice(head: string): Promise<void> {
    if (isBefore(head, this.cursor)) this.cursor = `${Math.max(0, timeOf(head) - REWIND_MS)}-0`;
    this.tryAgain();
    if (head !== this.cursor) await this.catchUp();
  }

  /** Reads the log from the cursor on and obeys its orders. Calls share one reading. */
  async catchUp(): Promise<void> {
    this.catching ??= this.readLog()
      .catch(this.options.onError)
      .finally(() => (this.catching = undefined));
    await this.catching;
  }

  private async readLog(): Promise<void> {
    const { readMs = READ_MS } = this.options;
    const read = this.orders.since(this.cursor);
    const rows = await within(read, readMs);
    if (rows === undefined)
      throw new BelayError('TIMEOUT', `The orders log was not read within ${readMs} ms; it is read again.`);
    for (const { seq, held } of rows) {
      if (held !== undefined) this.applyOrRetry(held, 0);
      this.cursor = seq;
    }
  }

  /** One order that fails must not keep the following ones from being obeyed. It is retried. */
  private applyOrRetry(held: HeldOrder, tries: number): void {
    const { id } = held.order;
    try {
      this.caughtUp += this.options.apply(held);
    } catch (error) {
      this.options.onError(error);
      if (this.failed.size < MAX_FAILED && tries < MOST_TRIES)
        this.failed.set(id, { held, tries: tries + 1 });
    }
  }

  private tryAgain(): void {
    const failed = [...this.failed.values()];
    this.failed.clear();
    for (const { held, tries } of failed) this.applyOrRetry(held, tries);
  }
}
