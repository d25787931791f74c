import {
  BelayError,
  ownPoolOf,
  validateSpec,
  type AgentRecord,
  type AttackResult,
  type BelayEvent,
  type DrillResult,
  type ExecutionSpec,
  type WorkerRecord,
} from '#libs/contracts';
import type { DagExecutor } from '#libs/executions';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import type { KillswitchService } from '../killswitch.service';
import { ESCAPES, HOSTILE, STAYS, WITNESS } from './hostile-scripts';

/** Each wait of the report is bounded by 3 s. Milliseconds. */
const REPORT_MS = 30_000;
const GRACE_MS = 200;
const DEADLINE_MS = 60_000;
/** The name of an attack that leaves the tree begins with this. */
const LEAVE = 'leave:';

/** The canary's report. */
export interface Report {
  readonly uid: number;
  /** The worker is embedded in a host's process. */
  readonly embedded: boolean;
  /** `could`: whether the attack succeeded; null where the means for it were missing. */
  readonly attacks: readonly {
    readonly name: string;
    readonly could: boolean | null;
    readonly what: string;
  }[];
  readonly left: readonly { readonly name: string; readonly pid: number; readonly start?: string }[];
}

/** The report of the agent that looks after the kill. */
export interface Sighting {
  /** The agent sees its worker in /proc, so it would see the other processes too. */
  readonly sees: boolean;
  readonly alive: readonly string[];
}

/**
 * An ordinary agent tries to reach Belay and to leave its tree. Then it is killed over the real path, and a second agent looks
 * which of the processes that left are alive. Passed when each attack was refused, or is named in docs/isolation.md.
 */
export class HostileDrill {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly dag: DagExecutor,
    private readonly killswitch: KillswitchService,
    private readonly feed: ChangeFeed,
  ) {}

  async attack(
    worker: WorkerRecord,
    by: string,
  ): Promise<Omit<DrillResult, 'workerId' | 'host' | 'at' | 'by'>> {
    const target = { workerId: worker.id, workerPid: worker.pid, escapes: ESCAPES, stay: STAYS };
    const canary = await this.begin(worker.id, by, 'hostile', HOSTILE, target);
    const kill = async (note: string) =>
      this.killswitch.placeOrder({ scope: { type: 'execution', executionId: canary }, by, note });
    let report: Report;
    try {
      report = (await this.word(canary)) as Report;
    } catch (error) {
      // The canary may not be left behind, whatever failed.
      await kill('drill given up');
      throw error;
    }
    const askedAt = performance.now();
    const order = await kill('hostile drill');
    const receipt = await this.killswitch.waitForReceipt(order.id);
    const tookMs = Math.round(performance.now() - askedAt);
    const look = { workerPid: worker.pid, left: report.left };
    const witness = await this.begin(worker.id, by, 'witness', WITNESS, look);
    const seen = (await this.word(witness)) as Sighting;
    const attacks = judge(worker, report, seen);
    const [killed] = receipt.targets;
    const outcome = killed?.outcome ?? 'not-started';
    const provedMs = killed?.latency?.provedMs;
    const detail = faultsOf(attacks, outcome === 'killed', order.id);
    return {
      executionId: canary,
      orderId: order.id,
      tookMs,
      passed: detail === undefined,
      ...(detail === undefined ? {} : { detail }),
      canaries: [{ name: 'hostile', outcome, ...(provedMs === undefined ? {} : { provedMs }) }],
      attacks,
    };
  }

  private async begin(
    workerId: string,
    by: string,
    name: string,
    script: string,
    argument: object,
  ): Promise<string> {
    const spec = specFor(workerId, name, ['node', '-e', script, JSON.stringify(argument)]);
    const { id } = await this.lifecycle.executions.create(spec, {
      start: true,
      canonical: `${name} ${workerId}`,
      actor: by,
    });
    await this.dag.drive(id);
    return id;
  }

  /** The report of an execution's only agent, also after the agent has ended. */
  private async word(executionId: string): Promise<unknown> {
    const look = async (): Promise<unknown> => {
      const [agent] = await this.lifecycle.agents.list({ executionId });
      if (agent === undefined) return undefined;
      // A list does not contain the agents' messages.
      const whole = await this.lifecycle.agents.get(agent.id);
      return whole.progress ?? stillComing(whole);
    };
    return this.feed.until(look, (event: BelayEvent) => event.executionId === executionId, {
      timeoutMs: REPORT_MS,
      what: 'The report of the hostile canary (is the worker latched, or busy?)',
    });
  }
}

function stillComing({ state, error, nodeId }: AgentRecord): undefined {
  if (state === 'spawning' || state === 'running') return undefined;
  throw new BelayError(
    'TIMEOUT',
    `The canary ${nodeId} ended by itself (${error?.message ?? state}). It needs node on the PATH of the worker’s agents.`,
  );
}

/** An agent has no sight of another one's processes there, so neither has the one that looks for survivors. */
const UNSEEN = 'not checked: in containment namespace no agent sees the processes of another';

/** Judges each attack by its outcome. */
export function judge(
  worker: Pick<WorkerRecord, 'isolation' | 'grade'> & Partial<Pick<WorkerRecord, 'containment'>>,
  report: Report,
  seen: Sighting,
): AttackResult[] {
  const tried = report.attacks.map(({ name, could, what }): AttackResult => {
    if (could !== true) return { name, outcome: could === null ? 'absent' : 'refused' };
    const outcome = isNamed(name, what, worker, report) ? 'named' : 'broken';
    return { name, outcome, detail: what };
  });
  const left = ESCAPES.map(({ name: way }): AttackResult => {
    const name = `${LEAVE}${way}`;
    if (!report.left.some((one) => one.name === way)) return { name, outcome: 'absent' };
    if (!seen.sees && worker.containment === 'namespace') return { name, outcome: 'absent', detail: UNSEEN };
    if (!seen.sees) return { name, outcome: 'broken', detail: 'no process could check whether it lives' };
    if (!seen.alive.includes(way)) return { name, outcome: 'refused' };
    return {
      name,
      outcome: isNamed(name, way, worker, report) ? 'named' : 'broken',
      detail: 'outlived the kill',
    };
  });
  return [...tried, ...left];
}

/** An agent with its worker's user has that user's rights: docs/isolation.md lists the consequences. */
const OF_THE_SAME_USER = new Set([
  'read-secrets',
  'list-data-dir',
  'write-data-dir',
  'signal',
  'connect-break-glass',
  'use-server',
  'release-latch',
  'hand-to-daemon',
]);
const CLOSED_BY_LIBC = new Set(['read-environment', 'read-memory', 'list-descriptors']);
/** Ways out of the tree that marks do not see. */
const UNSEEN_BY_MARKS = new Set(['unmarked', 'moved-cgroup'].map((way) => LEAVE + way));

function isNamed(
  name: string,
  what: string,
  worker: Pick<WorkerRecord, 'isolation' | 'grade'>,
  { uid, embedded }: Report,
): boolean {
  if (worker.isolation !== 'same-user') return false;
  if (name === 'use-server' && what.includes('without a password')) return false;
  if (name === 'release-latch' && what.includes('without a token')) return false;
  if (OF_THE_SAME_USER.has(name)) return true;
  // Root can read everything. Without libc nothing is closed, and a host process decides that for itself.
  if (CLOSED_BY_LIBC.has(name)) return uid === 0 || worker.grade === 'marks' || (embedded && what === 'host');
  return UNSEEN_BY_MARKS.has(name) && worker.grade === 'marks';
}

function faultsOf(attacks: readonly AttackResult[], killed: boolean, orderId: string): string | undefined {
  const broken = attacks.filter(({ outcome }) => outcome === 'broken').map(({ name }) => name);
  const parts = [
    ...(broken.length === 0 ? [] : [`Not refused: ${broken.join(', ')}.`]),
    ...(killed ? [] : [`The canary was not proved killed; see order ${orderId}.`]),
  ];
  return parts.length === 0 ? undefined : parts.join(' ');
}

/** The pool's name is one that no spec may use, so it is set after the validation. */
function specFor(workerId: string, name: string, command: readonly string[]): ExecutionSpec {
  const spec = validateSpec({
    name: `drill-${name}`,
    labels: { drill: workerId },
    timeoutMs: DEADLINE_MS,
    nodes: [{ id: name, run: { command }, priority: 10, maxAttempts: 1, graceMs: GRACE_MS }],
  });
  return { ...spec, nodes: spec.nodes.map((node) => ({ ...node, pool: ownPoolOf(workerId) })) };
}
