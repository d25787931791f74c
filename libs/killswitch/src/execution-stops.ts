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

/** An execution must end within this after its receipt. Milliseconds. */
const END_WITHIN_MS = 5_000;

/** Stops one execution, waits for its end, and answers from its record. */
export class ExecutionStops {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly orders: OrderStore,
    private readonly feed: ChangeFeed,
    private readonly giver: OrderGiver,
    private readonly receipts: Receipts,
  ) {}

  /**
   * Stops one execution and waits for its end, with the receipt. For an ended execution it answers from the record
   * (docs/http-api.md#post-apiexecutionsidstop).
   */
  async stop(executionId: string, request: Omit<OrderRequest, 'scope' | 'kind'>): Promise<StopResponse> {
    const before = await retryTransient(async () => this.lifecycle.executions.get(executionId)).catch(
      async (error: unknown) => {
        // An execution with an unreadable record can still be stopped, but its outcome cannot be answered
        // (docs/architecture.md#a-record-that-cannot-be-read).
        if (isCorrupt(error)) await this.order(executionId, request);
        throw error;
      },
    );
    if (isEnded(EXECUTION_MACHINE, before.state)) {
      // The order that ended the execution may still await its receipt. Two stops at once get one answer.
      if (before.orderId !== undefined) await this.receipts.waitFor(before.orderId).catch(() => undefined);
      return retryTransient(async () => this.response(before));
    }
    const order = await this.order(executionId, request);
    const record = await this.waitForEnd(executionId);
    // If an earlier order stopped the execution, the answer has that order's receipt.
    if (record.orderId !== undefined && record.orderId !== order.id)
      await this.receipts.waitFor(record.orderId).catch(unlessNotFound);
    return retryTransient(async () => this.response(record));
  }

  /** Resolves when the order's receipt is complete, or its limit has passed. */
  private async order(executionId: string, request: Omit<OrderRequest, 'scope' | 'kind'>): Promise<Order> {
    const order = await this.giver.give({
      reason: 'user_abort',
      ...request,
      scope: { type: 'execution', executionId },
    });
    await this.receipts.waitFor(order.id);
    return order;
  }

  /** The answer to a stop, made from the record alone, so that it equals the record. */
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
      costEstimated:
        record.costEstimated === true || record.live > 0 || (receipt?.totals.unconfirmed ?? 0) > 0,
      ...(record.tokens === undefined ? {} : { finalTokens: record.tokens }),
      ...(record.stoppedAt === undefined ? {} : { stoppedAt: record.stoppedAt }),
      summary: summaryOf(record, this.lifecycle.valkey.clock.now()),
      ...(receipt === undefined ? {} : { receipt }),
    };
  }

  /** An agent's end may be stored and not be in the receipt yet. The answer must contain what the records do. */
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

  /**
   * Ends an execution as `failed`, never as `stopped`, when an agent could not be proved dead within the limit
   * (docs/killswitch.md#meaning-of-the-answer). Repeatable.
   */
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

/** Ignores a receipt that retention has removed; rethrows when the server is away. */
function unlessNotFound(error: unknown): undefined {
  if (!(error instanceof NotFoundError)) throw error;
}
