import { NotFoundError, parseAgentId, type AgentRecord, type NodeSpec } from '#libs/contracts';
import type {
  AgentOutcome,
  AttemptEndPort,
  ClaimedNode,
  Fence,
  FinishResult,
  LifecycleService,
} from '#libs/lifecycle';
import { parseStored } from '#libs/valkey';
import { Subject, type Observable } from 'rxjs';
import type { DagExecutor } from './dag-executor';
import { recoveryRefusal, retryVerdict } from './retry-policy';

/**
 * The only code that ends an attempt, for every process that may see the end: the worker that ran it, the janitor that took its
 * lease, or the worker that no longer runs it. It stores the end with the verdict of the node's retry policy. Then it hands
 * over the nodes that became ready, and asks for the order that a stop needs.
 */
export class AttemptEnds implements AttemptEndPort {
  private readonly ended = new Subject<Fence>();

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
  ) {}

  /** Emits each attempt whose end this process has stored; twice where a caller repeated the end. */
  get ended$(): Observable<Fence> {
    return this.ended;
  }

  /**
   * Stores an end whose node is known. Repeatable. `mayRetry: false`: no policy is asked, the attempt is the last one.
   * @throws BelayError STALE_EPOCH | INVALID_TRANSITION | NOT_FOUND
   */
  async end(fence: Fence, given: AgentOutcome, node: ClaimedNode, mayRetry = true): Promise<FinishResult> {
    const { executionId = '', attempt = 1 } = parseAgentId(fence.agentId) ?? {};
    const refused = mayRetry ? refusedRecovery(given, node) : undefined;
    const outcome = refused ?? given;
    const verdict =
      mayRetry && refused === undefined && outcome.state === 'failed'
        ? retryVerdict(node, attempt, outcome, Math.random())
        : undefined;
    const result = await this.lifecycle.agents.finish(fence, { ...outcome, ...verdict });
    this.ended.next(fence);
    if (result.stopNeeded) {
      const reason = outcome.state === 'killed' ? 'killswitch' : 'error';
      this.dag.requestStop({ executionId, reason, by: 'belay' });
    }
    // The outcome is stored. The janitor repeats what fails here, from the outbox and the list of executions to advance.
    await this.dag.drive(executionId, result.entries, result.more).catch(() => undefined);
    return result;
  }

  /**
   * As `end`, for an attempt of which only the record is known: reads the node's spec. @throws BelayError CORRUPT_RECORD too
   */
  async endOf(
    { id, owner, epoch, executionId, nodeId, priorAttempts = 0 }: AgentRecord,
    judge: (node: NodeSpec) => { readonly outcome: AgentOutcome; readonly mayRetry?: boolean },
  ): Promise<FinishResult> {
    const node = await this.nodeSpec(executionId, nodeId);
    const { outcome, mayRetry } = judge(node);
    return this.end({ agentId: id, owner, epoch }, outcome, { ...node, priorAttempts }, mayRetry);
  }

  private async nodeSpec(executionId: string, nodeId: string): Promise<NodeSpec> {
    const { redis, keys, quarantine } = this.lifecycle.valkey;
    const key = keys.execution(executionId, 'specs');
    return quarantine.reading(key, async () => {
      const text = await redis.hget(key, nodeId);
      if (text === null) throw new NotFoundError('node', nodeId);
      return parseStored<NodeSpec>(key, text, nodeId);
    });
  }
}

/**
 * The outcome of an attempt that its own worker ended as lost and that its spec keeps from being tried again; otherwise
 * undefined. The worker is there, so `recovery.withinMs` cannot have passed.
 */
function refusedRecovery(outcome: AgentOutcome, node: ClaimedNode): AgentOutcome | undefined {
  if (outcome.state !== 'failed' || outcome.reason !== 'worker_lost') return undefined;
  const refusal = recoveryRefusal(node, 0);
  if (refusal === undefined) return undefined;
  const lost = (outcome.error?.message ?? 'Its worker was lost.').replace(/\.$/, '');
  return { ...outcome, error: { code: refusal.code, message: `${lost}; ${refusal.message}.` } };
}
