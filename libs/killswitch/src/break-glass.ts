import {
  scopeCovers,
  type LocalKillRequest,
  type Scope,
  type StopReport,
  type TargetReceipt,
} from '#libs/contracts';
import type { AgentRunner, AgentSlot } from '#libs/spawner';
import { within } from '#libs/valkey';
import { ulid } from 'ulid';

/** One worker's answer to a kill without the server. */
export interface LocalReceipt {
  readonly id: string;
  readonly workerId: string;
  readonly scope: Scope;
  /** True only when every target was proved dead, or was never started. */
  readonly complete: boolean;
  readonly targets: readonly TargetReceipt[];
  /** It takes no work until it could engage a latch for itself. */
  readonly holding: boolean;
}

export interface BreakGlassOptions {
  readonly workerId: string;
  /** Longest wait for the proof after the grace. Milliseconds. */
  readonly proofMs: number;
  readonly defaultGraceMs: number;
  /** Closes the intake now; the worker opens it once a latch of its own holds. */
  readonly hold: (id: string, request: LocalKillRequest) => void;
  /** Called with the act, for the audit log once the server can be told. */
  readonly done: (receipt: LocalReceipt, request: LocalKillRequest) => void;
}

/** The killswitch of one worker with Valkey down: what is in scope here is ended and proved, with nobody else asked (requirement R55). */
export class BreakGlass {
  constructor(
    private readonly runner: AgentRunner,
    private readonly options: BreakGlassOptions,
  ) {}

  /** Kills by `all`, this worker, a pool, labels, an execution or an agent, as far as they are here. Never rejects. */
  async kill(request: LocalKillRequest): Promise<LocalReceipt> {
    const { workerId } = this.options;
    const { scope } = request;
    const id = `local_${ulid()}`;
    const slots = this.runner.slotsWhere((slot) =>
      scopeCovers(scope, {
        agentId: slot.agentId,
        executionId: slot.executionId,
        workerId,
        pool: slot.pool,
        labels: slot.labels,
      }),
    );
    // Agents about to be claimed or spawned meanwhile are held back too.
    const holding = scope.type === 'all' || (scope.type === 'worker' && scope.workerId === workerId);
    const begun: LocalReceipt = { id, workerId, scope, complete: false, targets: [], holding };
    if (holding) this.options.hold(id, request);
    // A slot stays until its end is stored, which without the server may be long after.
    const endedBefore = await Promise.all(slots.map(async (slot) => isOver(slot)));
    this.runner.stopWhere((slot) => slots.includes(slot), {
      reason: 'killswitch',
      mode: request.mode,
      by: request.by,
      endsAs: 'killed',
      local: { scope, ...(request.note === undefined ? {} : { note: request.note }) },
      ...(request.graceMs === undefined ? {} : { graceMs: request.graceMs }),
    });
    const proofs = await Promise.all(
      slots.map(async (slot, i) => this.prove(slot, request, endedBefore[i] === true)),
    );
    const targets = proofs.filter((target) => target !== undefined);
    const receipt: LocalReceipt = {
      ...begun,
      complete: targets.every(({ outcome }) => outcome === 'killed' || outcome === 'already-ended'),
      targets,
    };
    this.options.done(receipt, request);
    return receipt;
  }

  /** Undefined: nothing of it was here. Its claim was under way, is not carried out now, and may be another's later. */
  private async prove(
    slot: AgentSlot,
    { graceMs }: LocalKillRequest,
    endedBefore: boolean,
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
    const wasStopped = seen.signals.length > 0 && !endedBefore;
    return { ...base, outcome: wasStopped ? 'killed' : 'already-ended', report: seen };
  }
}

/** How its tree was proved dead, however long that takes. */
async function endOf(slot: AgentSlot): Promise<StopReport | 'never-begun'> {
  const process = await slot.begun;
  if (process === undefined) return 'never-begun';
  const { report } = await process.ended;
  return report.proved ? report : process.confirmed;
}

/** Whether it was proved dead before anybody asked. */
async function isOver({ process }: AgentSlot): Promise<boolean> {
  const exit = await Promise.race([process?.ended, Promise.resolve(undefined)]);
  return exit?.report.proved === true;
}
