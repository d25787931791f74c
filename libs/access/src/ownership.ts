import {
  BelayError,
  boundError,
  conditionsOf,
  formatSelector,
  isBelayError,
  NotFoundError,
  selectorMatches,
  scopeKey,
  selectorWithin,
  type AgentRecord,
  type Caller,
  type ExecutionRecord,
  type Latch,
  type Receipt,
  type Scope,
  type ScopeWarning,
  type Selector,
  type StopResponse,
} from '#libs/contracts';
import type { LatchStore, OrderStore } from '#libs/killswitch';
import type { LifecycleService } from '#libs/lifecycle';
import { isCorrupt } from '#libs/valkey';

type Labels = Readonly<Record<string, string>>;

/**
 * The things that a token with a selector of labels owns (docs/tokens.md#tokens-that-are-bound-to-labels): executions whose labels meet
 * the selector; agents whose merged labels, of execution and node, do; orders and latches whose scope lies within it. To the
 * token, anything else looks as if it did not exist. A token without a selector owns everything, and nothing is looked up for
 * it.
 */
export class Ownership {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly orders: OrderStore,
    private readonly latches: LatchStore,
  ) {}

  /** @throws NotFoundError, the same as for one that does not exist */
  async requireExecution({ selector }: Caller, id: string): Promise<void> {
    if (selector !== undefined && !(await this.ownsExecution(selector, id)))
      throw new NotFoundError('execution', id);
  }

  /** @throws NotFoundError, the same as for one that does not exist */
  async requireAgent({ selector }: Caller, id: string): Promise<void> {
    if (selector !== undefined && !(await this.ownsAgent(selector, id))) throw new NotFoundError('agent', id);
  }

  /** @throws NotFoundError, the same as for one that does not exist */
  async requireOrder({ selector }: Caller, id: string): Promise<void> {
    if (selector === undefined) return;
    const order = await this.orders.get(id);
    if (order === undefined || !(await this.holds(selector, order.scope)))
      throw new NotFoundError('order', id);
  }

  /** @throws NotFoundError, the same as for one that does not exist */
  async requireLatch({ selector }: Caller, id: string): Promise<void> {
    if (selector === undefined) return;
    const latch = await found(this.latches.get(id));
    if (latch === undefined || !(await this.holds(selector, latch.scope)))
      throw new NotFoundError('latch', id);
  }

  /**
   * Checks that the caller may place an order or a latch over that scope. @throws NotFoundError for an execution or an agent
   * that the caller does not own · BelayError FORBIDDEN for a scope that is not within the token's
   */
  async requireScope(caller: Caller, scope: Scope): Promise<void> {
    const { selector } = caller;
    if (selector === undefined) return;
    if (scope.type === 'execution') return this.requireExecution(caller, scope.executionId);
    if (scope.type === 'agent') return this.requireAgent(caller, scope.agentId);
    if (await this.holds(selector, scope)) return;
    const bound = formatSelector(selector);
    const within = scope.type === 'selector' ? `${bound},${scope.selector}` : bound;
    throw boundError(caller, `its scope must lie within that. Give the selector ${within}.`);
  }

  /**
   * Checks the labels of a submitted and not yet validated spec: those of the execution, and those of each node merged with
   * them.
   * @throws BelayError FORBIDDEN
   */
  requireSpec(caller: Caller, spec: unknown): void {
    const { selector } = caller;
    if (selector === undefined) return;
    const { nodes } = fieldsOf(spec);
    const labels = labelsIn(spec);
    const all = [
      labels,
      ...(Array.isArray(nodes) ? nodes : []).map((node) => ({ ...labels, ...labelsIn(node) })),
    ];
    if (all.every((each) => selectorMatches(selector, each))) return;
    throw boundError(
      caller,
      'the labels of the execution, and those of each node with them, must meet that.',
    );
  }

  /** The receipts of a page that the caller owns. */
  async ordersOf(caller: Caller, receipts: readonly Receipt[]): Promise<Receipt[]> {
    const own = await this.ownOf(caller.selector, receipts, ({ order }) => order.scope);
    return own.map((receipt) => this.veiled(caller, receipt.order.scope, receipt));
  }

  /** The latches of a list that the caller owns. */
  async latchesOf({ selector }: Caller, latches: readonly Latch[]): Promise<Latch[]> {
    return this.ownOf(selector, latches, ({ scope }) => scope);
  }

  /** Whether the caller owns an agent or execution whose record was read. */
  ownsRecord({ selector }: Caller, { labels = {} }: Pick<AgentRecord | ExecutionRecord, 'labels'>): boolean {
    return selector === undefined || selectorMatches(selector, labels);
  }

  private async ownsReceipt({ selector }: Caller, { order }: Receipt): Promise<boolean> {
    return selector === undefined || this.holds(selector, order.scope);
  }

  /** An answer about a scope, without label names of others: a warning may suggest them. */
  veiled<T extends { readonly warning?: ScopeWarning }>({ selector }: Caller, scope: Scope, answer: T): T {
    if (selector === undefined || answer.warning === undefined) return answer;
    const { code } = answer.warning;
    const what = scope.type === 'selector' ? scope.selector : scopeKey(scope);
    return {
      ...answer,
      warning: { code, message: `No agent and no execution has labels that meet ${what}.` },
    };
  }

  /** The answer to a stop, without the receipt where an order of a wider scope stopped the execution. */
  async veiledStop(caller: Caller, { receipt, ...answer }: StopResponse): Promise<StopResponse> {
    if (receipt === undefined || !(await this.ownsReceipt(caller, receipt))) return answer;
    return { ...answer, receipt: this.veiled(caller, receipt.order.scope, receipt) };
  }

  /** For a submit that is refused: its idempotency key may belong to an execution of somebody else, which is not named. */
  veiledRefusal({ selector }: Caller): (error: unknown) => never {
    return (error) => {
      if (selector === undefined || !isBelayError(error) || error.code !== 'IDEMPOTENCY_CONFLICT')
        throw error;
      throw new BelayError(
        'IDEMPOTENCY_CONFLICT',
        'The idempotency key is already used with another spec; nothing was created. Use another key, or the same spec.',
      );
    };
  }

  private async ownOf<T>(selector: Selector | undefined, items: readonly T[], scopeOf: (item: T) => Scope) {
    if (selector === undefined) return [...items];
    const own = await Promise.all(items.map(async (item) => this.holds(selector, scopeOf(item))));
    return items.filter((_, at) => own[at] === true);
  }

  /** Whether the token owns all that a scope covers. For a wide scope only its conditions can show that. */
  private async holds(selector: Selector, scope: Scope): Promise<boolean> {
    if (scope.type === 'execution') return this.ownsExecution(selector, scope.executionId);
    if (scope.type === 'agent') return this.ownsAgent(selector, scope.agentId);
    return scope.type === 'selector' && selectorWithin(conditionsOf(scope.selector), selector);
  }

  private async ownsExecution(selector: Selector, id: string): Promise<boolean> {
    const record = await found(this.lifecycle.executions.get(id));
    return record !== undefined && selectorMatches(selector, record.labels);
  }

  private async ownsAgent(selector: Selector, id: string): Promise<boolean> {
    const record = await found(this.lifecycle.agents.get(id));
    return record !== undefined && selectorMatches(selector, record.labels ?? {});
  }
}

/** Undefined for a thing that does not exist or cannot be read: nothing shows who owns it. */
async function found<T>(looked: Promise<T>): Promise<T | undefined> {
  return looked.catch((error: unknown) => {
    if (error instanceof NotFoundError || isCorrupt(error)) return undefined;
    throw error;
  });
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** The values that are texts: the check of the spec refuses others. */
function labelsIn(value: unknown): Labels {
  const { labels } = fieldsOf(value);
  return Object.fromEntries(
    Object.entries(fieldsOf(labels)).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  );
}
