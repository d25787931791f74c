import {
  gradeOf,
  type AgentJob,
  type AgentState,
  type DispatchEntry,
  type Grade,
  type LatchRefusal,
  type NodeSpec,
  type Signal,
  type StopReason,
  type StopReport,
} from '#libs/contracts';
import { parseStored, type ScriptReply } from '#libs/valkey';
import type { Observable } from 'rxjs';
import { AgentReads } from './agent-reads';
import type {
  AgentOutcome,
  AgentSaid,
  StepAct,
  StepState,
  Claim,
  Fence,
  FinishResult,
  StartedProcess,
} from './agent-store.types';
import { encodeReport } from './decode';
import { executionOf } from './execution-of';
import { accepted } from './refusals';
import type { ShardScripts } from './shard-scripts';
import type { SlotStore, LimitedEntry } from './slot-store';

/** The finishing script makes this many dependants ready at most; `advance` makes the others ready. */
const RELEASE_BUDGET = 200;
/** A ban is kept this long. A process that sleeps longer and wakes claims nothing, since its lease is long gone. */
const GONE_KEPT_MS = 30 * 24 * 3_600_000;
const micros = (usd: number | undefined) => (usd === undefined ? {} : { costMicros: Math.round(usd * 1e6) });

/** One claim asks for a slot this many times at most. */
const MOST_SLOTS_ASKED = 5;

/** The claim script's answer to an attempt without a slot. */
interface LimitedClaim {
  readonly version: string;
  readonly names: readonly string[];
  readonly entry: LimitedEntry;
}

/** Agents: claim, start, report, finish; each one script, fenced by owner and epoch. */
export class AgentStore extends AgentReads {
  /** Whether a script has reported limits. Without limits, an end asks nothing of the slots. */
  private isLimited = false;

  /** Attempts that were woken because another attempt's claim was refused. */
  get woken$(): Observable<readonly DispatchEntry[]> {
    return this.slots.woken$;
  }

  /** @param least the lowest grade of proof that a stop may rest on. */
  constructor(
    scripts: ShardScripts,
    private readonly slots: SlotStore,
    private readonly least: Grade = 'marks',
  ) {
    super(scripts);
  }

  /**
   * Claims an attempt: no agent starts without a claim. Repeatable with the same token. A refusal is an answer, not
   * an error. Where limits are set, the claim script names the limits that the attempt counts under, and grants the
   * claim only to a worker with a slot.
   */
  async claim(job: AgentJob, workerId: string, token: string): Promise<Claim> {
    let slot = { grant: 0, version: '' };
    let claim = await this.claimWith(slot, job, workerId, token);
    // The janitor may give the slot back between two answers, or a person may change the limits. Then the worker asks
    // again.
    for (let asked = 0; !claim.claimed && claim.why === 'LIMITED' && asked < MOST_SLOTS_ASKED; asked++) {
      const limited = claim.limited as LimitedClaim;
      this.isLimited = true;
      const answer = await this.slots.take(limited.entry, limited.names);
      if ('limit' in answer) return { claimed: false, why: 'LIMITED', limit: answer.limit };
      slot = { grant: answer.grant, version: limited.version };
      claim = await this.claimWith(slot, job, workerId, token);
    }
    if (claim.claimed) return claim;
    if (claim.why === 'LIMITED') return { claimed: false, why: 'LIMITED' };
    await this.giveBack(job.agentId, slot.grant);
    return claim;
  }

  /**
   * Gives back the slot, and the place in the wait, of a claim that did not use them. Best effort: the janitor
   * compares slots with the agents that run.
   */
  private async giveBack(agentId: string, grant: number): Promise<void> {
    if (!this.isLimited) return;
    const woken = [
      ...(grant === 0 ? [] : await this.slots.giveBack(agentId, grant).catch(() => [])),
      ...(await this.slots.free([agentId], 'waiting').catch(() => [])),
    ];
    this.slots.tell(woken);
  }

  private async claimWith(
    slot: { readonly grant: number; readonly version: string },
    job: AgentJob,
    workerId: string,
    token: string,
  ): Promise<Claim> {
    const reply = (await this.scripts.raw('claimNode', job.executionId, [
      job.nodeId,
      job.agentId,
      job.attempt,
      workerId,
      token,
      slot.grant,
      slot.version,
    ])) as [string, string, string, string];
    const head = JSON.parse(reply[0]) as ScriptReply & {
      epoch: number;
      claimedAt: number;
      born: number;
      name: string;
      pool: string;
      labels?: Record<string, string>;
      graceMs?: number;
      previousId?: string;
      priorAttempts?: number;
      isRecovery?: boolean;
    };
    if (head.refused !== undefined) {
      const state = head['state'] as string | undefined;
      return {
        claimed: false,
        why: head.refused,
        ...(state === undefined ? {} : { state }),
        ...(head.refused === 'LIMITED' ? { limited: head as unknown as LimitedClaim } : {}),
        ...(head.refused === 'LATCHED' ? { latch: head as unknown as LatchRefusal } : {}),
      };
    }
    const key = this.keys.execution(job.executionId, 'specs');
    return {
      claimed: true,
      fence: { agentId: job.agentId, owner: workerId, epoch: head.epoch },
      claimedAt: head.claimedAt,
      born: head.born,
      pool: head.pool,
      labels: head.labels ?? {},
      executionName: head.name,
      ...(head.graceMs === undefined ? {} : { graceMs: head.graceMs }),
      ...(head.previousId === undefined ? {} : { previousId: head.previousId }),
      node: {
        ...parseStored<NodeSpec>(key, reply[1], job.nodeId),
        ...(head.priorAttempts === undefined ? {} : { priorAttempts: head.priorAttempts }),
      },
      isRecovery: head.isRecovery === true,
      ...(reply[2] === ''
        ? {}
        : { lastCheckpoint: parseStored(this.keys.execution(job.executionId, 'said'), reply[2]) }),
      ...(reply[3] === ''
        ? {}
        : { wokenBy: parseStored<Signal>(this.keys.execution(job.executionId, 'said'), reply[3]) }),
    };
  }

  /**
   * spawning → running. `stopping`: a stop has begun meanwhile, so the caller must kill the process that it just
   * spawned.
   */
  async started(
    fence: Fence,
    process: StartedProcess,
  ): Promise<{ stopping: boolean; orderId?: string; reason?: StopReason }> {
    const reply = await this.scripts.json('startAgent', executionOf(fence.agentId), [
      ...args(fence),
      JSON.stringify(process),
    ]);
    return accepted(reply, 'agent', fence.agentId);
  }

  /** Stores that the agent's processes are frozen, or that they run again. */
  async markFrozen(fence: Fence, frozen: boolean, orderId?: string): Promise<{ state: AgentState }> {
    const reply = await this.scripts.json('markFrozen', executionOf(fence.agentId), [
      ...args(fence),
      frozen ? 1 : 0,
      orderId ?? '',
    ]);
    return accepted(reply, 'agent', fence.agentId);
  }

  /** From here on no shard grants this worker a claim, so the set of its agents grows no more. */
  async banOwner(workerId: string): Promise<void> {
    const { scripts, keys } = this.scripts.valkey;
    await Promise.all(
      keys
        .tags()
        .map(async (tag) => scripts.run('banWorker', keys.shard(tag, 'gone'), [tag, workerId, GONE_KEPT_MS])),
    );
  }

  async report(fence: Fence, said: AgentSaid): Promise<{ overBudget: boolean }> {
    const events = (said.events ?? []).map((event) =>
      'name' in event && event.data !== undefined ? { ...event, data: JSON.stringify(event.data) } : event,
    );
    const reply = await this.scripts.json('reportAgent', executionOf(fence.agentId), [
      ...args(fence),
      JSON.stringify({
        ...micros(said.costUsd),
        costEstimated: said.costEstimated,
        tokens: said.tokens,
        badLines: said.badLines,
        dropped: said.dropped,
      }),
      JSON.stringify(events),
      said.progress === undefined ? '' : JSON.stringify(said.progress),
      said.checkpoint === undefined ? '' : JSON.stringify(said.checkpoint),
    ]);
    return accepted(reply, 'agent', fence.agentId);
  }

  /**
   * Begins or ends a named step of a handler (docs/handlers.md#steps). The write is fenced, and stored before the
   * handler uses the result. Repeatable.
   * @throws BelayError STALE_EPOCH · NOT_FOUND · INVALID_TRANSITION · OUTCOME_UNKNOWN (with the server's OOM as its cause
   *   where the server is full)
   */
  async step(fence: Fence, name: string, act: StepAct): Promise<StepState> {
    const result = act.act === 'done' ? act.result : undefined;
    const reply = await this.scripts.json('saveStep', executionOf(fence.agentId), [
      ...args(fence),
      name,
      act.act,
      act.act === 'begin' && act.isIdempotent ? 1 : 0,
      result === undefined ? '' : JSON.stringify(result),
    ]);
    const known = accepted<StepState>(reply, 'agent', fence.agentId);
    if (known.state !== 'done') return known;
    const text = String(known.result);
    return text === '' ? { state: 'done' } : { state: 'done', result: JSON.parse(text) as unknown };
  }

  /**
   * Stores the agent's end and all that follows from it, in one script
   * (docs/architecture.md#the-life-of-an-execution).
   */
  async finish(fence: Fence, outcome: AgentOutcome): Promise<FinishResult> {
    const { result, retryInMs, stop, report, costUsd, ...rest } = outcome;
    const reply = await this.scripts.json('finishAgent', executionOf(fence.agentId), [
      ...args(fence),
      JSON.stringify({
        ...rest,
        ...micros(costUsd),
        ...(report === undefined ? {} : { report: encodeReport(report), doubted: this.doubts(report) }),
      }),
      result === undefined ? '' : JSON.stringify(result),
      retryInMs ?? -1,
      stop === undefined ? '' : JSON.stringify(stop),
      RELEASE_BUDGET,
    ]);
    const done = accepted<FinishResult>(reply, 'agent', fence.agentId);
    const entries = Array.isArray(done.entries) ? done.entries : [];
    if (reply['limited'] !== true) return { ...done, entries };
    this.isLimited = true;
    // The end is stored. If this call fails, the janitor gives the slot back.
    const woken = await this.slots.free([fence.agentId], 'ended').catch(() => []);
    return { ...done, entries: [...entries, ...woken] };
  }

  private doubts(report: StopReport): boolean {
    return this.least === 'kernel' && gradeOf(report) === 'marks';
  }

  /**
   * Adds a proof of death to an end that was stored without one. Resolves with false when the proof was not needed
   * any more.
   */
  async prove(agentId: string, owner: string, report: StopReport): Promise<boolean> {
    const reply = await this.scripts.json('proveAgent', executionOf(agentId), [
      agentId,
      owner,
      encodeReport(report),
      this.doubts(report) ? 1 : 0,
    ]);
    return accepted<{ proved: boolean }>(reply, 'agent', agentId).proved;
  }

  /**
   * A person closed an order that names this lost attempt, so Belay stops looking for a proof of its death.
   * Repeatable.
   */
  async writeOff(agentId: string, { orderId, by }: { orderId: string; by: string }): Promise<void> {
    await this.scripts.json('writeOffAgent', executionOf(agentId), [agentId, orderId, by]);
  }
}

const args = (fence: Fence) => [fence.agentId, fence.owner, fence.epoch] as const;
