import { InvalidTransitionError, type NodeSpec } from '#libs/contracts';
import type { AgentOutcome, Fence, FinishResult, StartedProcess } from '#libs/lifecycle';
import { ExpiringMap } from '#libs/valkey';

type Finish = (fence: Fence, outcome: AgentOutcome, node: NodeSpec) => Promise<FinishResult>;
type Start = (fence: Fence, process: StartedProcess) => Promise<unknown>;

/** Longer than a failover takes. Milliseconds. */
const KEEP_MS = 60_000;
/** Each may contain a result of 256 KiB. */
const MOST = 500;

/** Ends that this worker has stored lately. A failover may lose some of them, and then they are stored again. */
export class OutcomeReplay {
  private readonly recent = new ExpiringMap<() => Promise<FinishResult>>(KEEP_MS, MOST);

  constructor(
    private readonly finish: Finish,
    private readonly start: Start,
  ) {}

  async store(
    fence: Fence,
    outcome: AgentOutcome,
    node: NodeSpec,
    process?: StartedProcess,
  ): Promise<FinishResult> {
    const act = async (): Promise<FinishResult> => {
      try {
        return await this.finish(fence, outcome, node);
      } catch (error) {
        if (process === undefined || !(error instanceof InvalidTransitionError) || error.from !== 'spawning')
          throw error;
        // A failover lost the start.
        await this.start(fence, process);
        return this.finish(fence, outcome, node);
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
