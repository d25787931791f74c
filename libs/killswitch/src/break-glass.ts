import {
  scopeCovers,
  type ExitReport,
  type Grade,
  type LocalKillRequest,
  type Scope,
  type StopReport,
  type TargetReceipt,
} from '#libs/contracts';
import { isFenced, type AgentSlot, type AgentSlots, type StopCause, type WorkerLease } from '#libs/spawner';
import { within } from '#libs/service';
import { ulid } from 'ulid';
import { countedAs, outcomeOfEnd, type KnownEnd } from './target-outcome';

/** One worker's answer to a kill without the server (docs/killswitch.md#without-the-server). */
export interface LocalReceipt {
  readonly id: string;
  readonly workerId: string;
  readonly scope: Scope;
  /** True only when every target was proved dead by a proof that counts, or was never started. */
  readonly complete: boolean;
  readonly targets: readonly TargetReceipt[];
  /** The worker takes no work until it can engage a latch of its own. */
  readonly holding: boolean;
}

export interface BreakGlassOptions {
  readonly workerId: string;
  /** The proof may take this long after the grace. Milliseconds. */
  readonly proofMs: number;
  readonly defaultGraceMs: number;
  /** The least grade of a proof that counts (`BELAY_PROOF`), here as in the receipts of orders. */
  readonly proof: Grade;
  /** Stops the intake of jobs now. The worker resumes it once its own latch is engaged. */
  readonly hold: (id: string, request: LocalKillRequest) => void;
  /** Called with the act, for the audit log once the server is back. */
  readonly done: (receipt: LocalReceipt, request: LocalKillRequest) => void;
}

/**
 * The killswitch of one worker while the server is down: it kills the agents in scope on this worker, with proof, and asks
 * nobody (docs/killswitch.md#without-the-server).
 */
export class BreakGlass {
  constructor(
    private readonly agents: AgentSlots,
    private readonly lease: Pick<WorkerLease, 'wasSilent'>,
    private readonly options: BreakGlassOptions,
  ) {}

  /** Kills by `all`, this worker, a pool, labels, an execution or an agent: those agents that run here. Never rejects. */
  async kill(request: LocalKillRequest): Promise<LocalReceipt> {
    const { workerId } = this.options;
    const { scope } = request;
    const id = `local_${ulid()}`;
    const isMeant = (slot: AgentSlot): boolean =>
      scopeCovers(scope, {
        agentId: slot.agentId,
        executionId: slot.executionId,
        workerId,
        pool: slot.pool,
        labels: slot.labels,
      });
    const slots = this.agents.slotsWhere(isMeant);
    // This also keeps agents from starting that are about to be claimed or spawned.
    const holding = scope.type === 'all' || (scope.type === 'worker' && scope.workerId === workerId);
    const begun: LocalReceipt = { id, workerId, scope, complete: false, targets: [], holding };
    if (holding) this.options.hold(id, request);
    const cause: StopCause = {
      reason: 'killswitch',
      mode: request.mode,
      by: request.by,
      endsAs: 'killed',
      local: { scope, ...(request.note === undefined ? {} : { note: request.note }) },
      ...(request.graceMs === undefined ? {} : { graceMs: request.graceMs }),
    };
    // Only the reply to its claim tells the pool and the labels of an attempt, and the server may have granted the claim before
    // this kill. Nobody waits for the reply, since nothing of the attempt has begun.
    for (const slot of this.agents.slotsWhere((one) => one.claimedAt === undefined && !slots.includes(one)))
      slot.whenGranted(() => this.agents.stopWhere((one) => one === slot && isMeant(one), cause));
    // A slot stays until its end is stored, which may take long without the server.
    const endedBefore = await Promise.all(slots.map(async (slot) => endedBy(slot)));
    this.agents.stopWhere((slot) => slots.includes(slot), cause);
    const proofs = await Promise.all(slots.map(async (slot, i) => this.prove(slot, request, endedBefore[i])));
    const targets = proofs.filter((target) => target !== undefined);
    const receipt: LocalReceipt = {
      ...begun,
      complete: targets.every(({ outcome }) => outcome === 'killed' || outcome === 'already-ended'),
      targets,
    };
    this.options.done(receipt, request);
    return receipt;
  }

  /** Undefined: the attempt was not here. Its claim was under way and is not carried out; another worker may get it later. */
  private async prove(
    slot: AgentSlot,
    { graceMs }: LocalKillRequest,
    endedBefore: EndedBy | undefined,
  ): Promise<TargetReceipt | undefined> {
    const { agentId, executionId, nodeId } = slot;
    const base = { agentId, executionId, nodeId, workerId: this.options.workerId };
    const limitMs = (graceMs ?? slot.graceMs ?? this.options.defaultGraceMs) + this.options.proofMs;
    const seen = await within(endOf(slot), limitMs);
    if (seen === undefined)
      return { ...base, outcome: 'unconfirmed', detail: `no proof within ${limitMs} ms` };
    if (seen === 'never-begun')
      return slot.claimedAt === undefined
        ? undefined
        : { ...base, outcome: 'already-ended', detail: 'it was never started' };
    const { exit, report } = seen;
    // Without a signal the tree ended by itself, unless the guardian ended it.
    const by = report.signals.length > 0 ? (endedBefore ?? BY_THIS_KILL) : BY_ITSELF;
    const end = isFenced(exit, this.lease) ? FENCED : by;
    const target = { ...base, ...outcomeOfEnd({ ...end, report }, base.workerId), report };
    return countedAs(target, this.options.proof);
  }
}

type EndedBy = Pick<KnownEnd, 'state' | 'reason'>;

const BY_THIS_KILL: EndedBy = { state: 'killed', reason: 'killswitch' };
const FENCED: EndedBy = { state: 'failed', reason: 'worker_lost' };
const BY_ITSELF: EndedBy = {};

interface SeenEnd {
  readonly exit: ExitReport;
  /** The last report of the stop. It proves nothing if the worker closed before it saw the tree dead. */
  readonly report: StopReport;
}

/** The end of the agent, once it is proved dead or the worker gives up. */
async function endOf(slot: AgentSlot): Promise<SeenEnd | 'never-begun'> {
  const process = await slot.begun;
  if (process === undefined) return 'never-begun';
  const exit = await process.ended;
  return { exit, report: exit.report.proved ? exit.report : await process.confirmed };
}

/** The stop that had ended the agent before the kill; undefined if it was not proved dead by then. */
async function endedBy({ process, cause }: AgentSlot): Promise<EndedBy | undefined> {
  const exit = await Promise.race([process?.ended, Promise.resolve(undefined)]);
  if (exit?.report.proved !== true) return undefined;
  return cause === undefined ? BY_ITSELF : { state: cause.endsAs, reason: cause.reason };
}
