import type { NodeSpec } from '#libs/contracts';
import type { AgentOutcome, Fence, FinishResult } from '#libs/lifecycle';
import { Recent } from '#libs/valkey';

type Finish = (fence: Fence, outcome: AgentOutcome, node: NodeSpec) => Promise<FinishResult>;

/** Longer than a failover takes. Milliseconds. */
const KEEP_MS = 60_000;
/** Each may hold a result of 256 KiB. */
const MOST = 500;

/** Ends this worker has stored lately: a failover may lose some, and they are stored again as they were. */
export class StoredEnds {
  private readonly recent = new Recent<() => Promise<FinishResult>>(KEEP_MS, MOST);

  constructor(private readonly finish: Finish) {}

  async store(fence: Fence, outcome: AgentOutcome, node: NodeSpec): Promise<FinishResult> {
    const act = async (): Promise<FinishResult> => this.finish(fence, outcome, node);
    const result = await act();
    this.recent.add(fence.agentId, act);
    return result;
  }

  /** Stores an end again. Repeatable; false when it is not known here. */
  async again(agentId: string): Promise<boolean> {
    const act = this.recent.get(agentId);
    if (act === undefined) return false;
    await act();
    return true;
  }
}
