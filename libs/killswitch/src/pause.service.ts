import {
  NotFoundError,
  type ExecutionRecord,
  type Order,
  type Receipt,
  type Signature,
} from '#libs/contracts';
import type { DagExecutor } from '#libs/executions';
import type { LifecycleService, MarkedHold } from '#libs/lifecycle';
import { retryTransient } from '#libs/valkey';
import { inTurn, type BestEffort } from './best-effort';
import type { LatchRelease, LatchStore } from './latch-store';
import type { OrderGiver } from './order-giver';
import type { OrderStore } from './order-store';
import type { Receipts } from './receipts';

/** A process that has noted a thaw places it within this time, or fails. Milliseconds. */
const THAW_PLACED_MS = 60_000;

/**
 * Pause and resume, freeze and thaw. A freeze ends with the release of its latch, and a pause with the execution's resume. The
 * order that thaws is durable before any answer says that the agents go on, and the sweep does what a crash leaves.
 */
export class PauseService {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
    private readonly orders: OrderStore,
    private readonly latches: LatchStore,
    private readonly giver: OrderGiver,
    private readonly receipts: Receipts,
    private readonly each: BestEffort,
  ) {}

  /**
   * From here on no node of the execution starts; with `freeze` running agents stand still too. Resolves when that was seen, or
   * the limit has passed.
   */
  async pause(
    executionId: string,
    request: Signature & { readonly mode: 'drain' | 'freeze'; readonly note?: string },
  ): Promise<{ execution: ExecutionRecord; receipt?: Receipt }> {
    const { mode, note, ...signature } = request;
    const words = note === undefined ? {} : { note };
    const { mark = '' } = await this.lifecycle.executions.pause(executionId, {
      mode,
      actor: signature.by,
      ...words,
    });
    const receipt =
      mode === 'freeze' ? await this.freeze(executionId, { ...signature, ...words }, mark) : undefined;
    const execution = await this.lifecycle.executions.get(executionId);
    return { execution, ...(receipt === undefined ? {} : { receipt }) };
  }

  /** Lets the execution go on from where it stood. @throws BelayError LATCHED */
  async resume(
    executionId: string,
    request: Signature & { readonly note?: string },
  ): Promise<{ execution: ExecutionRecord; receipt?: Receipt }> {
    const { wasFrozen, mark = '' } = await this.lifecycle.executions.resume(executionId, request.by);
    const thaw = wasFrozen ? await this.thawResumed(executionId, request, mark) : undefined;
    await this.dag.drive(executionId);
    const receipt = thaw && (await this.receipts.waitFor(thaw.id));
    const execution = await this.lifecycle.executions.get(executionId);
    return { execution, ...(receipt === undefined ? {} : { receipt }) };
  }

  private async freeze(
    executionId: string,
    said: Signature & { readonly note?: string },
    mark: string,
  ): Promise<Receipt> {
    const order = await this.giver.freeze(executionId, said);
    await this.lifecycle.executions.freezeOrdered(executionId, mark);
    return this.receipts.waitFor(order.id);
  }

  /** The freeze of a pause whose process died before it placed the order, unless the execution is frozen no more. */
  private async freezePaused({ id: executionId, mark }: MarkedHold): Promise<void> {
    await unlessGone(async () => this.giver.freezeIfFrozen(executionId));
    await this.lifecycle.executions.freezeOrdered(executionId, mark);
  }

  /**
   * The mark of the resume is removed once the log has the order. Until then the sweep places it
   * (docs/cli.md#belay-resume-execution).
   */
  private async thawResumed(
    executionId: string,
    said: Signature & { readonly note?: string },
    mark: string,
  ): Promise<Order> {
    const order = await this.giver.thaw(executionId, said);
    await this.lifecycle.executions.thawOrdered(executionId, mark);
    return order;
  }

  /**
   * Releases a latch. The trees of a freeze go on, and so do the executions that it paused. Repeatable: a second call does the
   * work that is left, and answers with the same thaw. `pending`: it needs another person, and stays engaged until then. @throws
   * NotFoundError
   */
  async release(
    latchId: string,
    request: Signature & { readonly note: string },
  ): Promise<LatchRelease & { readonly receipt?: Receipt }> {
    const release = await this.latches.release(latchId, request.by, request.note, request);
    if (release.pending !== undefined) return release;
    const { latch, already } = release;
    await this.resumeReleased(request.by);
    const { thawOrderId } = latch;
    if (thawOrderId === undefined) return { latch, already };
    const thaw = await this.orders.receipt(thawOrderId);
    if (!thaw.complete) await retryTransient(async () => this.giver.carryOut(thaw.order));
    return { latch, already, receipt: await this.receipts.waitFor(thawOrderId) };
  }

  /** Resumes executions that a released latch had paused, whoever released it and even if that process died. */
  async resumeReleased(by: string): Promise<void> {
    const { executions } = this.lifecycle;
    const held = await executions.held();
    if (held.length === 0) return;
    const engaged = new Set((await this.latches.list()).map(({ id }) => id));
    await this.each(
      held.filter(({ latchId }) => !engaged.has(latchId)),
      async ({ id, latchId }) => {
        const { state } = await executions.resume(id, by, latchId);
        if (state === 'running') await this.dag.drive(id);
      },
    );
  }

  /** Finishes what a release, a resume or a pause left undone: executions to resume, trees to thaw or to freeze. */
  async sweep(): Promise<void> {
    const { executions } = this.lifecycle;
    const thaw = async ({ id, mark }: MarkedHold): Promise<Order> =>
      this.thawResumed(id, { by: 'belay' }, mark);
    await inTurn(this.each, [
      async () => this.resumeReleased('belay'),
      async () => this.each(await executions.thawing(), thaw),
      async () => this.each(await executions.freezing(), async (one) => this.freezePaused(one)),
      async () => this.each(await executions.thaws(), async (one) => this.lookAfterThaw(one)),
    ]);
  }

  /** A thaw whose process died, or is late, before it looked whether the execution was frozen again meanwhile. */
  private async lookAfterThaw({
    id,
    thawId,
  }: {
    readonly id: string;
    readonly thawId: string;
  }): Promise<void> {
    await unlessGone(async () => this.giver.freezeIfFrozen(id));
    await this.lifecycle.executions.thawLooked(id, thawId, THAW_PLACED_MS);
  }
}

/** Nothing is left to do for an execution that was removed. */
async function unlessGone(act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
}
