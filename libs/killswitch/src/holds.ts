import { type ExecutionRecord, type Latch, type Order, type Receipt } from '#libs/contracts';
import type { DagExecutor } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import { patiently } from '#libs/valkey';
import type { OrderRequest } from './order-request';
import type { LatchStore } from './latch-store';
import type { OrderStore } from './order-store';

/** Of a target that its thaw reached first. */
export const NEVER_HELD = 'it was thawed before it was frozen';

/** The part of the killswitch that pauses use. */
export interface OrderGiver {
  give(request: OrderRequest): Promise<Order>;
  carryOut(order: Order): Promise<void>;
  waitForReceipt(orderId: string): Promise<Receipt>;
  each<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void>;
}

/**
 * Pause and resume, freeze and thaw. A hold ends with what put it on: a freeze's with the release of its latch, an
 * execution's with its resume. The order that thaws is durable before anything says that it goes on, and what a crash
 * leaves is done by the sweep.
 */
export class Holds {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
    private readonly orders: OrderStore,
    private readonly latches: LatchStore,
    private readonly giver: OrderGiver,
  ) {}

  /** Nothing of it starts; with `freeze` what runs stands still too. Resolves when that was seen, or its limit passed. */
  async pause(
    executionId: string,
    request: { mode: 'drain' | 'freeze'; by: string; note?: string },
  ): Promise<{ execution: ExecutionRecord; receipt?: Receipt }> {
    const { mode, by, note } = request;
    const said = { actor: by, ...(note === undefined ? {} : { note }) };
    await this.lifecycle.executions.pause(executionId, { mode, ...said });
    const receipt =
      mode === 'freeze'
        ? await this.freeze(executionId, { by, ...(note === undefined ? {} : { note }) })
        : undefined;
    const execution = await this.lifecycle.executions.get(executionId);
    return { execution, ...(receipt === undefined ? {} : { receipt }) };
  }

  /** Goes on where it stood. @throws BelayError LATCHED */
  async resume(
    executionId: string,
    request: { by: string; note?: string },
  ): Promise<{ execution: ExecutionRecord; receipt?: Receipt }> {
    const { wasFrozen } = await this.lifecycle.executions.resume(executionId, request.by);
    const thaw = wasFrozen ? await this.thawResumed(executionId, request) : undefined;
    await this.dag.drive(executionId);
    const receipt = thaw && (await this.giver.waitForReceipt(thaw.id));
    const execution = await this.lifecycle.executions.get(executionId);
    return { execution, ...(receipt === undefined ? {} : { receipt }) };
  }

  private async freeze(executionId: string, said: { by: string; note?: string }): Promise<Receipt> {
    const order = await this.giver.give({
      kind: 'freeze',
      scope: { type: 'execution', executionId },
      ...said,
    });
    return this.giver.waitForReceipt(order.id);
  }

  /** The marker of the resume goes once the order is in the log: until then the sweep gives it (R22). */
  private async thawResumed(executionId: string, said: { by: string; note?: string }): Promise<Order> {
    const order = await this.giver.give({ kind: 'thaw', scope: { type: 'execution', executionId }, ...said });
    await this.lifecycle.executions.thawOrdered(executionId);
    return order;
  }

  /**
   * Releases a latch; a freeze's trees go on, and so do the executions it paused. Repeatable: a second time does what
   * is left to do, and answers with the same thaw. @throws NotFoundError
   */
  async release(
    latchId: string,
    request: { by: string; note: string },
  ): Promise<{ latch: Latch; already: boolean; receipt?: Receipt }> {
    const { latch, already } = await this.latches.release(latchId, request.by, request.note);
    await this.resumeReleased(request.by);
    const { thawOrderId } = latch;
    if (thawOrderId === undefined) return { latch, already };
    const thaw = await this.orders.receipt(thawOrderId);
    if (!thaw.complete) await patiently(async () => this.giver.carryOut(thaw.order));
    return { latch, already, receipt: await this.giver.waitForReceipt(thawOrderId) };
  }

  /** Executions paused by a latch go on once it is released, whoever released it and however that went. */
  async resumeReleased(by: string): Promise<void> {
    const { executions } = this.lifecycle;
    const held = await executions.held();
    if (held.length === 0) return;
    const engaged = new Set((await this.latches.list()).map(({ id }) => id));
    await this.giver.each(
      held.filter(({ latchId }) => !engaged.has(latchId)),
      async ({ id, latchId }) => {
        const { state } = await executions.resume(id, by, latchId);
        if (state === 'running') await this.dag.drive(id);
      },
    );
  }

  /** Finishes what a release or a resume left undone: executions to resume, trees to thaw. */
  async sweep(): Promise<void> {
    await this.resumeReleased('belay');
    const thawing = await this.lifecycle.executions.thawing();
    await this.giver.each(thawing, async (id) => this.thawResumed(id, { by: 'belay' }));
  }

  /** A freeze whose latch was released, or whose execution was resumed: it must not be carried out any more. */
  async isOvertaken({ kind, scope, latchId }: Order): Promise<boolean> {
    if (kind !== 'freeze') return false;
    if (latchId !== undefined) return !(await this.latches.list()).some(({ id }) => id === latchId);
    if (scope.type !== 'execution') return false;
    const { state, frozen } = await this.lifecycle.executions.get(scope.executionId);
    return state !== 'paused' || frozen !== true;
  }

  /** Its trees go on; those it was still to reach were never held. */
  async settleOvertaken(order: Order): Promise<void> {
    // A latch's thaw is ordered with its release; a resume's may have been placed before the freeze.
    if (order.latchId === undefined) await this.giver.give({ kind: 'thaw', scope: order.scope, by: 'belay' });
    await this.orders.addTargets(order.id, [], true);
    const { targets } = await this.orders.receipt(order.id);
    await this.giver.each(
      targets.filter(({ outcome }) => outcome === 'pending' || outcome === 'failed'),
      async (target) => this.orders.report(order.id, { ...target, outcome: 'thawed', detail: NEVER_HELD }),
    );
  }
}
