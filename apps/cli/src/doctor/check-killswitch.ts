import type { BelayClient } from '#libs/client';
import { isBelayError, type ArmedReport, type DrillStatus } from '#libs/contracts';
import { adviceFor } from '../commands/armed';
import { count, formatDuration } from '../text/format';
import { fail, ok, warn, type Check } from './check';

/** An older pass says little about today. The default of BELAY_DRILL_MAX_AGE. Milliseconds. */
const RECENT_MS = 2 * 86_400_000;

/** Whether the stop would work: asks every guard now, and looks up the last drills. */
export async function checkKillswitch(client: BelayClient, now: number): Promise<Check[]> {
  const [armed, drills] = await Promise.all([
    orWarn('armed', async () => checkArmed(await client.armed())),
    orWarn('drill', async () => checkDrills((await client.drills()).items, now)),
  ]);
  return [...armed, ...drills];
}

/** One line where all workers are armed, else one for each that is not. */
export function checkArmed({ workers }: ArmedReport): Check[] {
  const deaf = workers.filter(({ armed }) => !armed);
  if (deaf.length > 0)
    return deaf.map((answer) =>
      fail(
        'armed',
        `${answer.workerId} is not armed: ${answer.detail ?? 'no reason given'}`,
        adviceFor(answer),
      ),
    );
  const slowest = Math.max(0, ...workers.map(({ afterMs = 0 }) => afterMs));
  const heard = `${count(workers.length, 'worker')} answered within ${formatDuration(slowest)}`;
  return workers.length === 0 ? [] : [ok('armed', heard)];
}

/** One line where all workers have passed lately, else one for each that has not. */
export function checkDrills(statuses: readonly DrillStatus[], now: number): Check[] {
  const missing = statuses.flatMap(({ workerId, last, overdue }) => {
    const why = whyNot(last, overdue, now);
    const advice = `belay drill --worker ${workerId}`;
    return why === undefined ? [] : [warn('drill', `${workerId} ${why}`, advice)];
  });
  if (missing.length > 0 || statuses.length === 0) return missing;
  const oldest = Math.min(...statuses.map(({ last }) => last?.at ?? now));
  const passed = `${count(statuses.length, 'worker')} passed, the oldest ${formatDuration(now - oldest)} ago`;
  return [ok('drill', passed)];
}

function whyNot(last: DrillStatus['last'], overdue: boolean, now: number): string | undefined {
  if (last === undefined) return 'has passed no drill yet';
  const ago = `${formatDuration(now - last.at)} ago`;
  if (!last.passed) return `failed its last drill ${ago}: ${last.detail ?? 'no reason given'}`;
  return overdue || now - last.at > RECENT_MS ? `passed its last drill ${ago}` : undefined;
}

/** A failed check is a line of its own: the others still count. */
async function orWarn(name: string, look: () => Promise<Check[]>): Promise<Check[]> {
  try {
    return await look();
  } catch (error) {
    if (!isBelayError(error) || error.code === 'UNAUTHORIZED') throw error;
    return [warn(name, `not known: ${error.message}`)];
  }
}
