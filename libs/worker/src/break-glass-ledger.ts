import { Inject, Injectable } from '@nestjs/common';
import type { LocalKillRequest } from '#libs/contracts';
import {
  type AuditStore,
  newLatch,
  type LatchStore,
  type LocalReceipt,
  type NewLatch,
} from '#libs/killswitch';
import { WORKER_OPTIONS, type WorkerOptions } from './worker-options';

/** Acts that are kept until the server is back. The oldest make room for further ones, and the next told entry counts them. */
const MOST = 1_000;

/**
 * Acts over the local socket, until the server has been told. A worker that was emptied without the server takes no work until
 * a latch of its own is engaged, and the audit log gets every act (docs/killswitch.md#without-the-server).
 */
@Injectable()
export class BreakGlassLedger {
  private readonly latches: NewLatch[] = [];
  private readonly acts: { readonly id: string; readonly entry: object }[] = [];
  /** Acts that made room for others and that no entry has counted yet. */
  private dropped = 0;

  constructor(@Inject(WORKER_OPTIONS) private readonly options: Pick<WorkerOptions, 'workerId'>) {}

  /** Whether this worker must take no work: it was emptied, and its latch is not engaged yet. */
  get holding(): boolean {
    return this.latches.length > 0;
  }

  /** One latch is enough, however often the kill is repeated. */
  hold(id: string, { by, note }: LocalKillRequest): void {
    if (this.holding) return;
    const { workerId } = this.options;
    const words = `break-glass on the worker's host${note === undefined ? '' : `: ${note}`}`;
    this.latches.push(newLatch('latch', { type: 'worker', workerId }, { by, note: words, orderId: id }));
  }

  done({ id, scope, complete, targets }: LocalReceipt, { by, note }: LocalKillRequest): void {
    // The first one may be on its way to the server.
    if (this.acts.length >= MOST) this.dropped += this.acts.splice(1, 1).length;
    const outcomes: Record<string, number> = {};
    for (const { outcome } of targets) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    const missing = complete
      ? 0
      : targets.filter(({ outcome }) => outcome === 'unconfirmed' || outcome === 'pending').length;
    const { workerId } = this.options;
    const entry = { act: 'break-glass', by, workerId, scope, orderId: id, outcomes, missing };
    this.acts.push({ id, entry: note === undefined ? entry : { ...entry, note } });
  }

  /** Called after every acknowledged heartbeat. Repeatable: an act that was told already changes nothing. */
  async tell(latches: LatchStore, audit: AuditStore): Promise<void> {
    for (let act = this.acts[0]; act !== undefined; act = this.acts[0]) {
      const { dropped } = this;
      await audit.record(act.id, dropped === 0 ? act.entry : { ...act.entry, dropped });
      this.dropped -= dropped;
      this.acts.shift();
    }
    for (let latch = this.latches[0]; latch !== undefined; latch = this.latches[0]) {
      if (!(await this.isHeld(latches))) await latches.engage(latch);
      this.latches.shift();
    }
  }

  /** Whether a latch of its own is engaged, which nobody has released. */
  private async isHeld(latches: LatchStore): Promise<boolean> {
    const engaged = await latches.list();
    return engaged.some(
      ({ kind, scope }) =>
        kind === 'latch' && scope.type === 'worker' && scope.workerId === this.options.workerId,
    );
  }
}
