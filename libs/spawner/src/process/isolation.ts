import { BelayError } from '#libs/contracts';
import type { Libc } from '../native';
import type { AgentIsolation } from './agent-isolation';
import type { Isolation, ProcessHostOptions } from './process-host.types';
import type { UidMarks } from './uid-marks';
import { UserIsolation, userMissing } from './user-isolation';

/** The isolation that was chosen for a worker. */
export interface ChosenIsolation {
  readonly isolation: Isolation;
  /** The marks with which guardian and reaper find processes by their users. */
  readonly marks?: UidMarks;
  /** Absent where agents are not isolated. @throws BelayError SPAWN_FAILED, reason ISOLATION */
  readonly prepare?: () => Promise<AgentIsolation>;
  close?(): Promise<void>;
}

type Asked = Pick<ProcessHostOptions, 'isolation' | 'agentUids' | 'uidFolder' | 'dataDir'>;

/**
 * The isolation asked for. Under `auto` it is the strongest in which every command runs unchanged, which is `same-user`.
 * @throws BelayError INVALID_SETTINGS when the one asked for does not work: no agent runs with a weaker one.
 */
export async function chooseIsolation(asked: Asked, libc: Libc | undefined): Promise<ChosenIsolation> {
  const { isolation = 'auto', agentUids, uidFolder, dataDir } = asked;
  if (isolation === 'auto' || isolation === 'same-user') return { isolation: 'same-user' };
  if (isolation === 'namespace')
    throw cannotBeHad(
      isolation,
      'this release has no such isolation yet',
      'Take BELAY_ISOLATION=user with BELAY_AGENT_UIDS',
    );
  const missing = userMissing(agentUids, dataDir);
  if (missing !== undefined || agentUids === undefined)
    throw cannotBeHad(isolation, missing ?? '', 'Meet the requirements of docs/isolation.md');
  try {
    const made = new UserIsolation(agentUids, libc, uidFolder);
    await made.collect();
    return made;
  } catch (error) {
    throw cannotBeHad(isolation, messageOf(error), 'Let the worker write there', error);
  }
}

/** @param advice the beginning of a sentence that ends with the alternative. */
export function cannotBeHad(
  isolation: Isolation,
  reason: string,
  advice: string,
  cause?: unknown,
): BelayError {
  return new BelayError(
    'INVALID_SETTINGS',
    `Isolation "${isolation}" is not available: ${reason}. ${advice}, or set BELAY_ISOLATION=auto.`,
    { details: { reason }, cause },
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
