import type { Order, StopReport, TargetLatency, TargetReceipt } from '#libs/contracts';
import type { AgentEnded, AgentSlot, HoldResult } from '#libs/spawner';
import { Subject, type Observable } from 'rxjs';
import type { OrderStore } from './order-store';
import { NEVER_HELD, outcomeOfEnd } from './target-outcome';

const STILL_SEEN = {
  outcome: 'unconfirmed',
  detail: 'processes of its tree were still seen; the worker keeps trying',
} as const;

/** The end of one target by an order, for metrics. */
export interface OrderServed {
  readonly order: Order;
  readonly target: TargetReceipt;
}

/** A worker's reports about the targets of orders. */
export class TargetReports {
  private readonly served = new Subject<OrderServed>();

  constructor(
    private readonly orders: OrderStore,
    private readonly workerId: string,
  ) {}

  /** Emits each target that this worker has dealt with. */
  get served$(): Observable<OrderServed> {
    return this.served;
  }

  /** Reports the end to every order that should end the agent: a second order may have come to hasten the first. */
  async ended({ slot, outcome, confirmed, report }: AgentEnded): Promise<void> {
    const seen = confirmed ? outcomeOfEnd({ ...outcome, report }, this.workerId) : STILL_SEEN;
    const kills = [...slot.served.values()].filter(({ order }) => order.kind === 'kill');
    await Promise.all(
      kills.map(async ({ order, afterMs }) =>
        this.report(order, {
          ...this.target(slot, 'unconfirmed'),
          ...seen,
          ...(report === undefined ? {} : { latency: latencyOf(report, afterMs), report }),
        }),
      ),
    );
  }

  /** Reports that a tree was seen frozen, or running again. */
  async held(order: Order, { slot, frozen, error }: HoldResult): Promise<void> {
    const still = frozen && order.kind === 'thaw' ? 'another order keeps it frozen' : undefined;
    const detail = error === undefined ? still : error.message;
    const outcome = error !== undefined ? 'failed' : frozen ? 'frozen' : 'thawed';
    await this.report(order, {
      ...this.target(slot, outcome),
      ...(detail === undefined ? {} : { detail }),
    });
  }

  /** Reports targets that an order should freeze, but whose thaw came first. */
  async neverHeld(order: Order, slots: readonly AgentSlot[]): Promise<void> {
    for (const slot of slots)
      await this.report(order, {
        ...this.target(slot, 'thawed'),
        detail: NEVER_HELD,
      });
  }

  private async report(order: Order, target: TargetReceipt): Promise<void> {
    this.served.next({ order, target });
    await this.orders.report(order.id, target);
  }

  /** The agent of a slot as a target. */
  target(slot: AgentSlot, outcome: TargetReceipt['outcome']): TargetReceipt {
    const { agentId, executionId, nodeId } = slot;
    return { agentId, executionId, nodeId, workerId: this.workerId, outcome };
  }

  stop(): void {
    this.served.complete();
  }
}

function latencyOf(report: StopReport, askedAfterMs: number): TargetLatency {
  const since = (ms: number | undefined) => (ms === undefined ? undefined : round(askedAfterMs + ms));
  const signalledMs = since(report.signalledAfterMs);
  const firstExitMs = since(report.firstExitAfterMs);
  const provedMs = since(report.provedAfterMs);
  return {
    ...(signalledMs === undefined ? {} : { signalledMs }),
    ...(firstExitMs === undefined ? {} : { firstExitMs }),
    ...(provedMs === undefined ? {} : { provedMs }),
  };
}

const round = (ms: number): number => Math.round(ms * 100) / 100;
