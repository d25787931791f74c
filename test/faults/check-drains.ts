import type { Violation } from './check';
import { isServerStepped, TOLERANCE } from './check-lives';
import type { DrainFacts, EventFacts, History } from './history';

/** From the end of its patience to the exit: grace, proof and the closing of everything. Seconds. */
const CLOSED_S = 8;
/** An end is stored a moment after it was seen. */
const STORED_S = 0.1;
const [CALM, FORCED] = [0, 3];
/** From the signal to the closing of the intake, on a busy machine. */
const HEARD_S = 1.5;

/**
 * A process that was asked to end does so within its bound. Its exit code and its record say what happened to its agents, it
 * leaves none of them, and takes no more.
 */
export function checkDrains(history: History): Violation[] {
  return history.drains.flatMap((drain) => [
    ...exits(drain, history),
    ...(drain.role === 'worker' && !isServerStepped(history) ? worker(drain, history) : []),
  ]);
}

const fail = ({ role, id }: DrainFacts, what: string): Violation => ({
  rule: 'drained',
  what: `${role} ${id} ${what}`,
});

/** Whether a fault may have delayed its report, or cost it its lease. */
function isTroubled({ id, endedAt = Number.POSITIVE_INFINITY }: DrainFacts, { faults }: History): boolean {
  return faults.some(
    ({ kind, at, workerId }) =>
      at < endedAt && !kind.endsWith('-drain') && kind !== 'worker-drain-forced' && (workerId ?? id) === id,
  );
}

function exits(drain: DrainFacts, history: History): Violation[] {
  const { role, code, endedAt, limitAt } = drain;
  if (endedAt === undefined) return [fail(drain, 'did not end although it was asked to')];
  const expected: unknown[] = role === 'worker' ? [CALM, FORCED] : [CALM];
  const troubled = isTroubled(drain, history);
  if (!troubled && !expected.includes(code)) return [fail(drain, `was drained and exited with ${code}`)];
  if (!troubled && endedAt > limitAt + CLOSED_S)
    return [fail(drain, `ended ${(endedAt - limitAt).toFixed(2)} s after its patience`)];
  return [];
}

function worker(drain: DrainFacts, history: History): Violation[] {
  const { id, endedAt = Number.POSITIVE_INFINITY, askedAt, limitAt, code, forced } = drain;
  const owned = new Set(
    history.executions.flatMap(({ agents }) =>
      agents.filter(({ owner }) => owner === id).map((one) => one.id),
    ),
  );
  const moves = history.executions
    .flatMap(({ events }) => events)
    .filter(({ entity, from, to, agentId = '' }) => entity === 'agent' && from !== to && owned.has(agentId))
    .map((event) => ({ ...event, at: event.atMs / 1_000 - history.wallOffset }));
  const violations: Violation[] = [];
  const late = history.lines.find(({ agentId, at }) => owned.has(agentId) && at > endedAt + TOLERANCE);
  if (late !== undefined) violations.push(fail(drain, `had exited, and its ${late.agentId} wrote`));
  const troubled = isTroubled(drain, history);
  // While it ends, a late report may still claim for it.
  const taken = moves.find(
    ({ to, at }) => to === 'spawning' && at > (troubled ? endedAt : askedAt + HEARD_S),
  );
  if (taken !== undefined) violations.push(fail(drain, `was draining, and claimed ${taken.agentId}`));
  const ended = moves.filter(({ to }) => to !== 'spawning' && to !== 'running');
  const stopped = ended.find(({ reason }) => reason === 'server_shutdown');
  if (code === CALM && stopped !== undefined)
    violations.push(fail(drain, `exited with 0, and had stopped ${stopped.agentId}`));
  const wasBusy = (limit: number): boolean => ended.some(({ at }) => at > limit - STORED_S);
  // Where no ended execution is kept, nobody can say which ones it stopped.
  if (code === FORCED && !troubled && !history.pruned && !wasBusy(forced ? askedAt : limitAt))
    violations.push(fail(drain, 'exited with 3, and nothing of it ran to the limit'));
  if (stopped !== undefined && !forced && isEarly(stopped, limitAt))
    violations.push(fail(drain, `stopped ${stopped.agentId} before its patience was over`));
  return troubled ? violations : [...violations, ...record(drain, history)];
}

const isEarly = ({ at }: EventFacts & { readonly at: number }, limitAt: number): boolean =>
  at < limitAt - TOLERANCE;

/** The worker's stored record, read while the fleet still ran. */
function record(drain: DrainFacts, { workers }: History): Violation[] {
  if (drain.last === true) return [];
  const { state, reason } = workers.find(({ id }) => id === drain.id) ?? {};
  const expected = drain.code === FORCED ? 'forced' : 'drained';
  if (state === 'stopped' && reason === expected) return [];
  return [fail(drain, `exited with ${drain.code}, and is stored as ${state} (${reason})`)];
}
