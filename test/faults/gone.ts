import { spawnSync } from 'node:child_process';
import { isBelayError } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Fleet, Member } from '../support/fleet';
import { atMost, pause } from './clock';
import type { ForgottenFacts } from './history';
import { childrenOf, livingAgents } from './processes';

/** A PID namespace of its own, with a /proc of its own. unshare(1) stays outside, and its end ends the whole namespace. */
const UNSHARE = [
  'unshare',
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
  '--pid',
  '--fork',
  '--kill-child',
  '--mount-proc',
];
/** Another fault may prevent the read: then nothing is reported. */
const READ_WITHIN_MS = 3_000;
const AGAIN_MS = 100;
const BUSY_WITHIN_MS = 1_500;

/** Why no PID namespace can be made here; undefined when it can. */
export function whyNoNamespace(): string | undefined {
  const [command = '', ...flags] = UNSHARE;
  const { status, stderr, error } = spawnSync(command, [...flags, 'true'], { encoding: 'utf8' });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

/** A worker that sees only its own processes, and its pid outside: unshare(1) passes no signal on. */
export async function startApart(
  fleet: Fleet,
  env: Record<string, string>,
): Promise<{ readonly member: Member; readonly pid: number | undefined }> {
  const member = await fleet.addWorker(env, UNSHARE);
  return { member, pid: childrenOf(member.process.pid ?? 0)[0] };
}

/** A worker without agents leaves nothing. Resolves when it runs an agent, or after a while. */
export async function untilBusy(workerId: string, signal: AbortSignal): Promise<void> {
  const until = performance.now() + BUSY_WITHIN_MS;
  const isBusy = (): boolean => livingAgents().some((agent) => agent.workerId === workerId);
  while (!isBusy() && performance.now() < until && !signal.aborted) await pause(AGAIN_MS, signal);
}

/**
 * Agents that outlived their worker and its guardian. No process can have seen them dead before the next worker in that place
 * has looked for them. Until then the store must list them as unproved, and keep their executions.
 */
export class LeftAlone {
  private constructor(
    private readonly life: LifecycleService,
    private readonly workerId: string,
    private readonly agents: readonly { readonly id: string; readonly executionId: string }[],
  ) {}

  /** Called once both are dead. */
  static async by(life: LifecycleService, workerId: string): Promise<LeftAlone> {
    const owned = await reading(async () => life.agents.ownedBy(workerId));
    const living = new Set(livingAgents().map(({ agentId }) => agentId));
    return new LeftAlone(life, workerId, owned?.filter(({ id }) => living.has(id)) ?? []);
  }

  /** Attempts that the store already calls dead, or has forgotten. */
  async forgotten(): Promise<ForgottenFacts[]> {
    const { life, workerId } = this;
    const open = await reading(async () => [
      ...(await life.agents.ownedBy(workerId)),
      ...(await life.agents.unproved(workerId)),
    ]);
    if (open === undefined) return [];
    const ids = new Set(open.map(({ id }) => id));
    const looked = this.agents.map(async ({ id, executionId }): Promise<ForgottenFacts[]> => {
      if (!ids.has(id)) return [{ agentId: id, workerId, how: 'counts as proved dead' }];
      const isThere = await reading(async () => exists(life, executionId));
      return isThere === false ? [{ agentId: id, workerId, how: 'has no execution any more' }] : [];
    });
    return (await Promise.all(looked)).flat();
  }
}

async function exists(life: LifecycleService, executionId: string): Promise<boolean> {
  return life.executions.get(executionId).then(
    () => true,
    (error: unknown) => {
      if (isBelayError(error) && error.code === 'NOT_FOUND') return false;
      throw error;
    },
  );
}

async function reading<T>(read: () => Promise<T>): Promise<T | undefined> {
  const until = performance.now() + READ_WITHIN_MS;
  while (performance.now() < until) {
    const found = await atMost(
      READ_WITHIN_MS,
      read().catch(() => undefined),
    );
    if (found !== undefined) return found;
    await pause(AGAIN_MS);
  }
  return undefined;
}
