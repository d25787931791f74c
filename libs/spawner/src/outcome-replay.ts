import { Inject, Injectable, Optional } from '@nestjs/common';
import { BelayError, InvalidTransitionError } from '#libs/contracts';
import {
  AttemptEndPort,
  LifecycleService,
  type AgentOutcome,
  type ClaimedNode,
  type Fence,
  type FinishResult,
  type StartedProcess,
} from '#libs/lifecycle';
import { ExpiringMap } from '#libs/valkey';

/** Longer than a failover takes. Milliseconds. */
const KEEP_MS = 60_000;
/** Each may contain a result of 256 KiB. */
const MOST = 500;

const NO_PORT =
  'SpawnerModule has nothing that decides whether a failed node is tried again. ' +
  'Import ExecutionsModule, which provides AttemptEndPort: SpawnerModule.forRoot({ imports: [executions], … }).';

/** Ends that this worker has stored lately. A failover may lose some of them, and then they are stored again. */
@Injectable()
export class OutcomeReplay {
  private readonly recent = new ExpiringMap<() => Promise<FinishResult>>(KEEP_MS, MOST);
  private readonly ends: AttemptEndPort;

  /** @throws BelayError INVALID_SETTINGS: the application has nothing that ends an attempt */
  constructor(
    @Optional() @Inject(AttemptEndPort) ends: AttemptEndPort | undefined,
    @Inject(LifecycleService) private readonly lifecycle: Pick<LifecycleService, 'agents'>,
  ) {
    // Optional only so that this error, and not Nest's, names the module to import.
    if (ends === undefined) throw new BelayError('INVALID_SETTINGS', NO_PORT);
    this.ends = ends;
  }

  async store(
    fence: Fence,
    outcome: AgentOutcome,
    node: ClaimedNode,
    process?: StartedProcess,
  ): Promise<FinishResult> {
    const act = async (): Promise<FinishResult> => {
      try {
        return await this.ends.end(fence, outcome, node);
      } catch (error) {
        if (process === undefined || !(error instanceof InvalidTransitionError) || error.from !== 'spawning')
          throw error;
        // A failover lost the start.
        await this.lifecycle.agents.started(fence, process);
        return this.ends.end(fence, outcome, node);
      }
    };
    const result = await act();
    this.recent.add(fence.agentId, act);
    return result;
  }

  /** Stores an end again. Repeatable. False when this worker does not know it. */
  async again(agentId: string): Promise<boolean> {
    const act = this.recent.get(agentId);
    if (act === undefined) return false;
    await act();
    return true;
  }
}
