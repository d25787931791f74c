import { Inject, Injectable } from '@nestjs/common';
import { isBelayError, type AgentRecord } from '#libs/contracts';
import { AttemptEnds } from '#libs/executions';
import { LifecycleService } from '#libs/lifecycle';
import type { ServiceLog } from '#libs/service';
import { AgentSlots, OutcomeReplay, type AgentSlot } from '#libs/spawner';
import { WORKER_LOG, WORKER_OPTIONS, type WorkerOptions } from './worker-options';

/** The worker knows of a claim before it is granted, so this must only outlast a slow reply. Milliseconds. */
const LOST_AFTER_MS = 30_000;
const LOST_TRACK = {
  code: 'LOST_TRACK',
  message: 'Its worker has no process of it and does not know how it ended.',
};

export interface OrphanOptions extends Pick<WorkerOptions, 'workerId'> {
  /** An attempt that is on record and not here for so long is ended. Milliseconds; default 30,000. */
  readonly lostAfterMs?: number;
}

/**
 * Compares the attempts that a worker owns by the record with those that it runs. An attempt on record that the worker does not
 * run is ended. After a failover, an attempt that the worker runs and that the record does not know is stopped.
 */
@Injectable()
export class OrphanReconciler {
  /** Whether a failover may have lost this worker's last writes. */
  private doubtful = false;
  /** Attempts on record that the worker does not run, and the monotonic time of the first look: the server's clock may step. */
  private readonly missing = new Map<string, number>();

  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(AgentSlots) private readonly agents: AgentSlots,
    @Inject(OutcomeReplay) private readonly stored: OutcomeReplay,
    @Inject(AttemptEnds) private readonly attemptEnds: AttemptEnds,
    @Inject(WORKER_OPTIONS) private readonly options: OrphanOptions,
    @Inject(WORKER_LOG) private readonly log: ServiceLog,
  ) {}

  /** Notes that the server may have lost the last writes: the next look compares in both directions. */
  doubt(): void {
    this.doubtful = true;
  }

  async look(signal: AbortSignal): Promise<void> {
    const { doubtful } = this;
    this.doubtful = false;
    try {
      const claimed = this.agents.slotsWhere(({ claimedAt }) => claimedAt !== undefined);
      const owned = await this.lifecycle.agents.ownedBy(this.options.workerId);
      if (doubtful) await this.stopStrays(claimed, new Set(owned.map(({ id }) => id)), signal);
      await this.endOrphans(owned, signal);
    } catch (error) {
      this.doubtful ||= doubtful;
      throw error;
    }
  }

  private async endOrphans(owned: readonly AgentRecord[], signal: AbortSignal): Promise<void> {
    const here = new Set(this.agents.agentIds());
    const away = owned.filter(({ id }) => !here.has(id));
    this.noteMissing(away);
    for (const agent of away) {
      const { id, unreadable } = agent;
      if (signal.aborted) return;
      // Nothing can be stored for the attempt until its record is mended.
      if (unreadable === true) continue;
      // An attempt whose end is refused must not keep the others from theirs.
      await this.endOrphan(agent).catch((error: unknown) => {
        if (!isBelayError(error) || error.code === 'OUTCOME_UNKNOWN') throw error;
        this.log.warn({ agentId: id, err: error }, 'the end of an agent that is not here is refused');
      });
    }
  }

  private async endOrphan(agent: AgentRecord): Promise<void> {
    const { id } = agent;
    if ((await this.storeAgain(id)) || !this.isLost(id)) return;
    this.log.error({ agentId: id }, 'an agent of this worker is not here any more; its end was never stored');
    await this.attemptEnds.endOf(agent, () => ({
      outcome: { state: 'failed', reason: 'error', error: LOST_TRACK },
    }));
  }

  /** Stores a known end again. False: this worker does not know the end, or every try is refused. */
  private async storeAgain(id: string): Promise<boolean> {
    try {
      return await this.stored.again(id);
    } catch (error) {
      if (isBelayError(error) && error.code !== 'OUTCOME_UNKNOWN' && this.isLost(id)) return false;
      throw error;
    }
  }

  private noteMissing(away: readonly AgentRecord[]): void {
    const now = performance.now();
    const since = new Map(away.map(({ id }) => [id, this.missing.get(id) ?? now]));
    this.missing.clear();
    for (const [id, at] of since) this.missing.set(id, at);
  }

  private isLost(id: string): boolean {
    const { lostAfterMs = LOST_AFTER_MS } = this.options;
    return performance.now() - (this.missing.get(id) ?? Number.POSITIVE_INFINITY) > lostAfterMs;
  }

  /** Stops attempts whose record names another owner: their claim was lost, so they may run elsewhere. */
  private async stopStrays(
    claimed: readonly AgentSlot[],
    owned: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<void> {
    for (const slot of claimed) {
      if (owned.has(slot.agentId)) continue;
      const record = await this.lifecycle.agents.get(slot.agentId).catch((error: unknown) => {
        if (isBelayError(error) && error.code === 'NOT_FOUND') return undefined;
        throw error;
      });
      if (record?.owner === this.options.workerId && record.epoch === slot.fence?.epoch) continue;
      this.log.error({ agentId: slot.agentId }, 'its claim was lost by a failover; stopping it');
      this.agents.stopWhere((one) => one === slot, {
        reason: 'worker_lost',
        mode: 'immediate',
        by: 'belay',
        endsAs: 'failed',
      });
      if (signal.aborted) {
        this.doubtful = true;
        return;
      }
    }
  }
}
