import type { WorkerState } from '#libs/contracts';
import { type Valkey } from '#libs/valkey';
import { within } from '#libs/service';
import type { BelayRuntime } from './belay-runtime';

/** The answer of one indicator, in the form that @nestjs/terminus takes from a health check. */
export type HealthResult<Key extends string, Facts extends object = object> = Record<
  Key,
  Facts & { readonly status: 'up' | 'down'; readonly message?: string }
>;

/** Valkey must answer within this. Milliseconds. */
const ANSWER_WITHIN_MS = 1_000;
/** A pass of the background work takes this long only when something blocks it. Milliseconds. */
const PASS_WITHIN_MS = 15_000;

/**
 * Health indicators of a Nest application with Belay. They do not need @nestjs/terminus; its `HealthCheckService` accepts them:
 * `health.check([() => belay.worker(), () => belay.background(), () => belay.valkey()])`.
 */
export class BelayHealth {
  constructor(
    private readonly runtime: BelayRuntime,
    private readonly server: Valkey,
  ) {}

  /**
   * Up while the worker takes work and has its lease, so that no other process may act for it. An application without a worker
   * is up.
   */
  worker<Key extends string = 'belay-worker'>(
    key = 'belay-worker' as Key,
  ): HealthResult<Key, { readonly state: WorkerState | 'none'; readonly leaseLeftMs?: number }> {
    const { worker } = this.runtime;
    if (!this.runtime.hasWorker) return result(key, true, '', { state: 'none' });
    if (worker === undefined) return result(key, false, 'It has not started.', { state: 'idle' });
    const leaseLeftMs = Math.max(0, Math.round(worker.lease.leftMs));
    const message = worker.state === 'running' ? 'It has no contact with Valkey.' : `It is ${worker.state}.`;
    const isUp = worker.state === 'running' && worker.lease.holds;
    return result(key, isUp, message, { state: worker.state, leaseLeftMs });
  }

  /**
   * Up while the background passes of an orchestrator end: lost workers, deadlines, open orders. No process leads;
   * orchestrators take turns, and each makes its passes.
   */
  background<Key extends string = 'belay-background'>(
    key = 'belay-background' as Key,
  ): HealthResult<Key, { readonly state: WorkerState; readonly sincePassMs: number }> {
    const { state, sincePassMs } = this.runtime.background;
    const isUp = state === 'running' && sincePassMs <= PASS_WITHIN_MS;
    const message =
      state === 'running' ? `No pass has ended for ${Math.round(sincePassMs)} ms.` : `It is ${state}.`;
    return result(key, isUp, message, { state, sincePassMs: Math.round(sincePassMs) });
  }

  /** Up while the state server answers. */
  async valkey<Key extends string = 'belay-valkey'>(
    key = 'belay-valkey' as Key,
  ): Promise<HealthResult<Key, { readonly tookMs: number }>> {
    const from = performance.now();
    const [isUp, message] = await within(this.server.redis.ping(), ANSWER_WITHIN_MS).then(
      (answer) => [answer !== undefined, `It has not answered within ${ANSWER_WITHIN_MS} ms.`] as const,
      (error: unknown) => [false, error instanceof Error ? error.message : String(error)] as const,
    );
    return result(key, isUp, message, { tookMs: Math.round(performance.now() - from) });
  }
}

function result<Key extends string, Facts extends object>(
  key: Key,
  isUp: boolean,
  message: string,
  facts: Facts,
): HealthResult<Key, Facts> {
  const said = isUp ? { status: 'up' as const, ...facts } : { status: 'down' as const, message, ...facts };
  return { [key]: said } as HealthResult<Key, Facts>;
}
