import { Inject, Injectable } from '@nestjs/common';
import type { DeletedExecution, Signature } from '#libs/contracts';
import { AuditStore } from '#libs/killswitch';
import { LifecycleService, type Removal } from '#libs/lifecycle';
import { ORCHESTRATOR_OPTIONS, type OrchestratorOptions } from './orchestrator-options';

/** The interval of looks for deletions that a crash left unfinished. Milliseconds. */
const LOOK_MS = 15_000;

export interface DeletionsOptions extends Pick<OrchestratorOptions, 'onError'> {
  /** The age from which a deletion counts as left by its process, for tests. Milliseconds. */
  readonly leftAfterMs?: number;
}

/**
 * Deletes ended executions for people. The script that removes the record also lists the deletion, so its audit entry and
 * the removal of the logs follow even if this process dies in between.
 */
@Injectable()
export class Deletions {
  /** The monotonic time of the last look. */
  private lookedAt = -Infinity;

  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(AuditStore) private readonly audit: AuditStore,
    @Inject(ORCHESTRATOR_OPTIONS) private readonly options: DeletionsOptions,
  ) {}

  /** @throws NotFoundError · BelayError NOT_ENDED · NOT_PROVED · ORDER_OPEN */
  async delete(executionId: string, said: Signature): Promise<DeletedExecution> {
    const removal = await this.lifecycle.removals.begin(executionId, said);
    await this.finish(removal);
    return { executionId: removal.executionId, state: removal.state };
  }

  /** Finishes what a dead process left, of deletions and of retention. Repeatable, also by several orchestrators at once. */
  async sweep(): Promise<void> {
    if (performance.now() - this.lookedAt < LOOK_MS) return;
    this.lookedAt = performance.now();
    for (const removal of await this.lifecycle.removals.left(this.options.leftAfterMs))
      await this.finish(removal).catch(this.options.onError);
  }

  /** The entry is written once: it has the id of the removal. */
  private async finish(removal: Removal): Promise<void> {
    const { id, executionId, said } = removal;
    if (said !== undefined)
      await this.audit.record(id, {
        act: 'execution.deleted',
        scope: { type: 'execution', executionId },
        ...said,
      });
    await this.lifecycle.removals.finish(removal);
  }
}
