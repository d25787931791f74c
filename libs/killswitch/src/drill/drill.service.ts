import {
  BelayError,
  isBelayError,
  ownPoolOf,
  roleOf,
  validateSpec,
  type AgentRecord,
  type BelayEvent,
  type CanaryResult,
  type DrillResult,
  type DrillStatus,
  type ExecutionSpec,
  type Receipt,
  type Signature,
  type WorkerRecord,
} from '#libs/contracts';
import type { DagExecutor } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import type { KillswitchService } from '../killswitch.service';
import { CANARIES, FROZEN } from './canaries';
import type { DrillStore } from './drill-store';
import { HostileDrill } from './hostile-drill';

/** The canaries must be set up within this. Milliseconds. */
const READY_MS = 15_000;
const GRACE_MS = 200;
/**
 * The janitor ends the canaries at this deadline, also when the drill's process died: a frozen canary does not end by itself.
 */
const DEADLINE_MS = 60_000;
/** A drill without a result after this has lost its orchestrator. Milliseconds. */
const UNFINISHED_MS = 180_000;

/**
 * Shows that the stop works before it is needed: starts resisting process trees on a worker and kills them over the real path
 * (order, doorbell, worker, proof, receipt). The result is stored, and a failed drill raises an alarm
 * (docs/killswitch.md#before-you-need-it).
 */
export class DrillService {
  private readonly hostile: HostileDrill;

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
    private readonly killswitch: KillswitchService,
    private readonly feed: ChangeFeed,
    readonly store: DrillStore,
  ) {
    this.hostile = new HostileDrill(lifecycle, dag, killswitch, feed);
  }

  /** Drills one worker, or every running worker at once. @throws NotFoundError */
  async run(
    request: Signature & { readonly workerId?: string; readonly hostile?: boolean },
  ): Promise<DrillResult[]> {
    await this.noticeUnfinished();
    const { workers } = this.lifecycle;
    const chosen =
      request.workerId === undefined
        ? await workers.list(['running'])
        : [await workers.get(request.workerId)];
    return Promise.all(
      chosen.map(async (worker) =>
        this.drill(worker, { by: request.by, ...roleOf(request) }, request.hostile === true),
      ),
    );
  }

  /** The drill status of each running worker. `maxAgeMs`: a last pass older than this is overdue. */
  async status(maxAgeMs: number | undefined): Promise<DrillStatus[]> {
    await this.noticeUnfinished();
    const [workers, last, hostile] = await Promise.all([
      this.lifecycle.workers.list(['running']),
      this.store.last(),
      this.store.last(true),
    ]);
    const now = this.lifecycle.valkey.clock.now();
    return workers.map(({ id, createdAt }) => {
      const result = last.get(id);
      const passedAt = result?.passed === true ? result.at : createdAt;
      const overdue = maxAgeMs !== undefined && now - passedAt > maxAgeMs;
      const attacked = hostile.get(id);
      return {
        workerId: id,
        overdue,
        ...(result === undefined ? {} : { last: result }),
        ...(attacked === undefined ? {} : { hostile: attacked }),
      };
    });
  }

  /** Removes the results of workers that are gone. */
  async prune(): Promise<void> {
    await this.noticeUnfinished();
    const [workers, last, hostile] = await Promise.all([
      this.lifecycle.workers.list(),
      this.store.last(),
      this.store.last(true),
    ]);
    const known = new Set(workers.map(({ id }) => id));
    await this.store.forget([...last.keys(), ...hostile.keys()].filter((id) => !known.has(id)));
  }

  /** A drill whose orchestrator died has failed: the next orchestrator that looks marks it so. */
  async noticeUnfinished(): Promise<void> {
    const now = this.lifecycle.valkey.clock.now();
    for (const [id, { hostile, ...begun }] of await this.store.begun()) {
      if (now - begun.at < UNFINISHED_MS) continue;
      const detail = 'It did not finish: the orchestrator that ran it is gone.';
      const result = { ...begun, passed: false, detail, ...nothingOf(hostile === true) };
      await this.store.save(id, result, { noticed: true });
    }
  }

  private async drill(worker: WorkerRecord, said: Signature, hostile: boolean): Promise<DrillResult> {
    const { by } = said;
    const base = { workerId: worker.id, host: worker.host, ...said, at: this.lifecycle.valkey.clock.now() };
    const drillId = await this.store.begin({ ...base, ...(hostile ? { hostile } : {}) });
    let result: DrillResult;
    try {
      if (worker.state !== 'running')
        throw new BelayError('NOT_FOUND', `Worker ${worker.id} is ${worker.state} and cannot be drilled.`);
      result = {
        ...base,
        ...(await (hostile ? this.hostile.attack(worker, by) : this.killCanaries(worker.id, by))),
      };
    } catch (error) {
      const detail = isBelayError(error)
        ? error.message
        : 'Something failed inside Belay; its log has the cause.';
      result = { ...base, passed: false, detail, ...nothingOf(hostile) };
    }
    await this.store.save(drillId, result);
    return result;
  }

  private async killCanaries(
    workerId: string,
    by: string,
  ): Promise<Omit<DrillResult, 'workerId' | 'host' | 'at' | 'by'>> {
    const { executions } = this.lifecycle;
    const { id } = await executions.create(specFor(workerId), {
      start: true,
      canonical: workerId,
      actor: by,
    });
    try {
      await this.dag.drive(id);
      const agents = await this.whenReady(id);
      const frozen = agents.find(({ nodeId }) => nodeId === FROZEN);
      if (frozen !== undefined) await this.freeze(frozen.id, by);
      const askedAt = performance.now();
      const order = await this.killswitch.placeOrder({
        scope: { type: 'execution', executionId: id },
        by,
        note: 'drill',
      });
      const receipt = await this.killswitch.waitForReceipt(order.id);
      return {
        executionId: id,
        orderId: order.id,
        tookMs: Math.round(performance.now() - askedAt),
        ...judge(receipt),
      };
    } catch (error) {
      // No canary may be left behind, whatever failed.
      await this.killswitch.placeOrder({
        scope: { type: 'execution', executionId: id },
        mode: 'immediate',
        by,
        note: 'drill given up',
      });
      throw error;
    }
  }

  private async whenReady(executionId: string): Promise<AgentRecord[]> {
    const look = async (): Promise<AgentRecord[] | undefined> => {
      const agents = await this.lifecycle.agents.list({ executionId });
      const running = agents.filter(({ state }) => state === 'running');
      // A list does not contain the agents' messages.
      if (running.length === CANARIES.length) {
        const whole = await Promise.all(running.map(async (one) => this.lifecycle.agents.get(one.id)));
        if (whole.every(({ progress }) => progress === 'ready')) return whole;
      }
      const ended = agents.find(({ state }) => state !== 'spawning' && state !== 'running');
      if (ended === undefined) return undefined;
      throw new BelayError(
        'TIMEOUT',
        `The canary ${ended.nodeId} ended by itself (${ended.error?.message ?? ended.state}); there was nothing to kill.`,
      );
    };
    return this.feed.until(look, (event: BelayEvent) => event.executionId === executionId, {
      timeoutMs: READY_MS,
      what: 'The start of every canary (is the worker latched, or busy?)',
    });
  }

  private async freeze(agentId: string, by: string): Promise<void> {
    const order = await this.killswitch.placeOrder({
      kind: 'freeze',
      scope: { type: 'agent', agentId },
      by,
      note: 'drill',
    });
    const { totals } = await this.killswitch.waitForReceipt(order.id);
    if (totals.frozen !== 1)
      throw new BelayError('TIMEOUT', `The canary ${FROZEN} could not be frozen; see order ${order.id}.`);
  }
}

function nothingOf(hostile: boolean): Pick<DrillResult, 'canaries' | 'attacks'> {
  return { canaries: [], ...(hostile ? { attacks: [] } : {}) };
}

function judge(receipt: Receipt): Pick<DrillResult, 'passed' | 'detail' | 'canaries'> {
  const canaries = CANARIES.map(({ name }): CanaryResult => {
    const target = receipt.targets.find(({ nodeId }) => nodeId === name);
    if (target === undefined) return { name, outcome: 'not-started' };
    const { outcome, report, latency } = target;
    return {
      name,
      outcome,
      ...(report === undefined ? {} : { escalated: report.escalated }),
      ...(latency?.provedMs === undefined ? {} : { provedMs: latency.provedMs }),
    };
  });
  const failed = canaries.filter(({ outcome }) => outcome !== 'killed');
  if (failed.length === 0) return { passed: true, canaries };
  const which = failed.map(({ name, outcome }) => `${name} ${outcome}`).join(', ');
  return { passed: false, detail: `Not proved killed: ${which}. See order ${receipt.orderId}.`, canaries };
}

/** The pool's name is one that no spec may use, so it is set after the validation. */
function specFor(workerId: string): ExecutionSpec {
  const spec = validateSpec({
    name: 'drill',
    labels: { drill: workerId },
    onFailure: 'continue',
    timeoutMs: DEADLINE_MS,
    nodes: CANARIES.map(({ name, command }) => ({
      id: name,
      run: { command: [command], shell: true },
      priority: 10,
      maxAttempts: 1,
      graceMs: GRACE_MS,
    })),
  });
  return { ...spec, nodes: spec.nodes.map((node) => ({ ...node, pool: ownPoolOf(workerId) })) };
}
