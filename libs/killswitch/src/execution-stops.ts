import {
  EXECUTION_MACHINE,
  isEnded,
  NotFoundError,
  summaryOf,
  type ExecutionRecord,
  type Order,
  type Receipt,
  type StopResponse,
} from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { isCorrupt, retryTransient, type ChangeFeed } from '#libs/valkey';
import type { OrderGiver } from './order-giver';
import type { OrderRequest } from './order-request';
import type { OrderStore } from './order-store';
import type { Receipts } from './receipts';
import { requireTimeout } from './require-timeout';

/** The end of an execution has this long after its receipt. Milliseconds. */
const END_WITHIN_MS = 5_000;

/** Stops one execution, waits for its end, and answers from what is stored. */
export class ExecutionStops {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly orders: OrderStore,
    private readonly feed: ChangeFeed,
    private readonly giver: OrderGiver,
    private readonly receipts: Receipts,
  ) {}

  /** Stops one execution and waits for its end, with the receipt (requirement R19). An ended one answers what is stored (requirement R20). */
  async stop(executionId: string, request: Omit<OrderRequest, 'scope' | 'kind'>): Promise<StopResponse> {
    const before = await retryTransient(async () => this.lifecycle.executions.get(executionId)).catch(
      async (error: unknown) => {
        // An execution whose record cannot be read can still be stopped; its outcome cannot be answered (requirement R31).
        if (isCorrupt(error)) await this.order(executionId, request);
        throw error;
      },
    );
    if (isEnded(EXECUTION_MACHINE, before.state)) {
      // The order that ended it may be younger than its receipt: two stops at once have one answer.
      if (before.orderId !== undefined) await this.receipts.waitFor(before.orderId).catch(() => undefined);
      return retryTransient(async () => this.response(before));
    }
    const order = await this.order(executionId, request);
    const record = await this.waitForEnd(executionId);
    // An earlier order may be the one that stopped it: its receipt is the one answered.
    if (record.orderId !== undefined && record.orderId !== order.id)
      await this.receipts.waitFor(record.orderId).catch(unlessNotFound);
    return retryTransient(async () => this.response(record));
  }

  /** Resolves when its receipt is complete, or its limit has passed. */
  private async order(executionId: string, request: Omit<OrderRequest, 'scope' | 'kind'>): Promise<Order> {
    const order = await this.giver.give({
      reason: 'user_abort',
      ...request,
      scope: { type: 'execution', executionId },
    });
    await this.receipts.waitFor(order.id);
    return order;
  }

  /** The answer to a stop, from the record alone: the response equals the record (requirement R7). */
  async response(record: ExecutionRecord): Promise<StopResponse> {
    const receipt =
      record.orderId === undefined
        ? undefined
        : await this.newestReceipt(record.orderId).catch(unlessNotFound);
    return {
      status: record.state,
      executionId: record.id,
      ...(record.reason === undefined ? {} : { reason: record.reason }),
      finalCostUsd: record.costUsd,
      costEstimated: record.live > 0 || (receipt?.totals.unconfirmed ?? 0) > 0,
      ...(record.stoppedAt === undefined ? {} : { stoppedAt: record.stoppedAt }),
      summary: summaryOf(record, this.lifecycle.valkey.clock.now()),
      ...(receipt === undefined ? {} : { receipt }),
    };
  }

  /** The end of an agent may be stored and not be in the receipt yet: an answer must not say less than the records do. */
  private async newestReceipt(orderId: string): Promise<Receipt> {
    if ((await this.orders.state(orderId)) !== 'complete') await this.receipts.repair(orderId);
    return this.orders.receipt(orderId);
  }

  private async waitForEnd(executionId: string): Promise<ExecutionRecord> {
    const look = async (): Promise<ExecutionRecord | undefined> => {
      const record = await this.lifecycle.executions.get(executionId);
      return isEnded(EXECUTION_MACHINE, record.state) ? record : undefined;
    };
    return this.feed
      .until(look, (event) => event.executionId === executionId && event.entity === 'execution', {
        timeoutMs: END_WITHIN_MS,
        what: `The end of ${executionId}`,
      })
      .catch(async (error: unknown) => {
        requireTimeout(error);
        return this.giveUp(executionId);
      });
  }

  /** An agent could not be proved dead within the limit: the execution says so, it never says `stopped` (requirement R51). Repeatable. */
  async giveUp(executionId: string): Promise<ExecutionRecord> {
    const record = await this.lifecycle.executions.get(executionId);
    if (record.state === 'stopping' && record.live > 0) {
      const error = {
        code: 'UNCONFIRMED',
        message: 'Some agents could not be proved dead; see the receipt.',
      };
      await this.lifecycle.executions
        .transition(executionId, 'failed', { from: 'stopping', set: { error: JSON.stringify(error) } })
        .catch(() => undefined);
    }
    return this.lifecycle.executions.get(executionId);
  }
}

/** A receipt that retention has removed is no receipt; a server that is away is another matter. */
function unlessNotFound(error: unknown): undefined {
  if (!(error instanceof NotFoundError)) throw error;
}
