import {
  canonicalSpecInTurns,
  isBelayError,
  parseTraceparent,
  validateAgentSpec,
  validateSpecInTurns,
  type ActedBy,
  type AgentSpecInput,
  type ExecutionRecord,
  type ExecutionSpec,
  type ExecutionSpecInput,
  type RetryRequest,
  type Signal,
  type Signalled,
} from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { retryTransient, turn } from '#libs/valkey';
import { Subject, type Observable } from 'rxjs';
import { ulid } from 'ulid';
import { checkHandlers, hasHandlers } from './check-handlers';
import type { DagExecutor } from './dag-executor';
import { refuseLimited } from './refuse-limited';

export interface SubmitOptions extends ActedBy {
  /** Start at once (default). */
  readonly start?: boolean;
  /** The Idempotency-Key header; the spec's own field wins where both are given. */
  readonly idempotencyKey?: string;
  /**
   * `refuse`: the submit is refused where a limit keeps its first nodes from starting now. Default `queue` (docs/limits.md).
   */
  readonly whenLimited?: 'queue' | 'refuse';
  /** The caller's place in a trace, a W3C `traceparent`. Without tracing, or broken, it is left out. */
  readonly traceparent?: string;
  /** Aborted before: nothing is created. Aborted later: the execution is stopped. */
  readonly signal?: AbortSignal;
}

/** A submit that created an execution, for traces. */
export interface Accepted {
  readonly execution: ExecutionRecord;
  /** As stored with the execution. */
  readonly traceparent: string | undefined;
  /** From the call until the execution was stored. Milliseconds. */
  readonly tookMs: number;
}

/** The tries of a submit whose execution is lost before the answer. */
const MOST_TRIES = 3;

/** Accepts specs: checks, stores and starts them. */
export class ExecutionManager {
  private readonly accepted = new Subject<Accepted>();

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
  ) {}

  /** Emits each submit that created an execution. While somebody observes this, the caller's `traceparent` is stored too. */
  get accepted$(): Observable<Accepted> {
    return this.accepted;
  }

  /**
   * Checks every field, whatever its type says, so that a spec from outside may be passed as it is.
   * @throws InvalidSpecError with every problem · BelayError IDEMPOTENCY_CONFLICT · LIMITED with `whenLimited: 'refuse'`
   */
  async submit(
    raw: ExecutionSpecInput,
    options: SubmitOptions = {},
  ): Promise<{ execution: ExecutionRecord; created: boolean }> {
    return this.accept(await validateSpecInTurns(raw, turn), options);
  }

  /** Submits one agent as an execution of one node. */
  async submitAgent(
    raw: AgentSpecInput,
    options: SubmitOptions = {},
  ): Promise<{ execution: ExecutionRecord; created: boolean }> {
    return this.accept(validateAgentSpec(raw), options);
  }

  async start(executionId: string): Promise<ExecutionRecord> {
    await this.lifecycle.executions.start(executionId);
    await this.dag.drive(executionId);
    return this.lifecycle.executions.get(executionId);
  }

  /**
   * Goes on with a stopped or failed execution: completed nodes keep their results. `force`: although an attempt that was lost
   * may still run. `maxCostUsd`, `maxTokens`: replace its budgets.
   * @throws InvalidTransitionError · BelayError NOT_PROVED · BUDGET_SPENT · LATCHED
   */
  async retry(
    executionId: string,
    { actor, force = false, ...budgets }: RetryRequest & { readonly actor: string },
  ): Promise<ExecutionRecord> {
    await this.lifecycle.executions.retry(executionId, {
      retryId: ulid(),
      actor,
      force,
      ...budgets,
    });
    await this.dag.drive(executionId);
    return this.lifecycle.executions.get(executionId);
  }

  /**
   * Wakes the nodes that wait for a signal, or keeps it for the first node that will wait (docs/suspend.md).
   * @throws NotFoundError · BelayError INVALID_TRANSITION · TOO_MANY_SIGNALS
   */
  async signal(
    executionId: string,
    { name, payload, by }: Signal & { readonly by: string },
  ): Promise<Signalled> {
    const request = { name, payload, by, requestId: ulid() };
    const { woken, kept, entries } = await this.lifecycle.executions.signal(executionId, request);
    // The nodes are stored as ready: the janitor hands over those for which this fails.
    await this.dag.drive(executionId, entries).catch(() => undefined);
    return { executionId, signal: name, woken, kept };
  }

  private async accept(
    spec: ExecutionSpec,
    options: SubmitOptions,
  ): Promise<{ execution: ExecutionRecord; created: boolean }> {
    options.signal?.throwIfAborted();
    const began = performance.now();
    const key = spec.idempotencyKey ?? options.idempotencyKey;
    const keyed = key === undefined ? spec : { ...spec, idempotencyKey: key };
    const { executions, workers, slots } = this.lifecycle;
    if (hasHandlers(spec)) checkHandlers(spec, await retryTransient(async () => workers.list(['running'])));
    const start = options.start ?? true;
    // A submit of an execution that exists is answered with it, whatever the limits say.
    if (options.whenLimited === 'refuse' && !(key !== undefined && (await executions.isKeyTaken(key))))
      await refuseLimited(slots, keyed);
    const canonical = await canonicalSpecInTurns(keyed, turn);
    const traceparent = this.accepted.observed ? options.traceparent : undefined;
    for (let tries = 1; ; tries++) {
      const { id, created } = await executions.create(keyed, {
        start,
        canonical,
        ...(parseTraceparent(traceparent) === undefined ? {} : { traceparent }),
        ...pickActor(options),
      });
      const tookMs = performance.now() - began;
      try {
        if (created && start) await this.dag.drive(id);
        const execution = await retryTransient(async () => executions.get(id));
        if (options.signal !== undefined)
          this.stopOnAbort(id, options.signal, options.actor ?? 'abort signal');
        if (created && this.accepted.observed) this.accepted.next({ execution, traceparent, tookMs });
        return { execution, created };
      } catch (error) {
        // The execution was lost with the server that had stored it, before anybody got an answer.
        if (!isBelayError(error) || error.code !== 'NOT_FOUND' || tries === MOST_TRIES) throw error;
      }
    }
  }

  private stopOnAbort(executionId: string, signal: AbortSignal, by: string): void {
    const stop = (): void => this.dag.requestStop({ executionId, reason: 'user_abort', by });
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  }
}

function pickActor({ actor, actorRole, requestId }: ActedBy): ActedBy {
  return {
    ...(actor === undefined ? {} : { actor }),
    ...(actorRole === undefined ? {} : { actorRole }),
    ...(requestId === undefined ? {} : { requestId }),
  };
}
