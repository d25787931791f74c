import type { AttackResult, DrillStatus } from '#libs/contracts';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { count, formatTime } from '../text/format';
import type { TimedCanary, TimedDrill } from './drill-latency';

const INDENT = ' '.repeat(8);
const NAME_WIDTH = 11;
const ATTACK_WIDTH = 19;

/** Each worker's drill: its result, why it did not pass and what to do; then the totals. */
export function renderDrills(results: readonly TimedDrill[], style: Style): string[] {
  const passed = results.filter((result) => result.passed).length;
  return [
    ...results.flatMap((result) => renderDrill(result, style)),
    `${count(results.length, 'worker')}: ${passed} passed, ${results.length - passed} failed`,
  ];
}

/** The last result of each worker, and the missing or overdue ones. */
export function renderStatuses(statuses: readonly DrillStatus[], style: Style, isHostile = false): string[] {
  return statuses.flatMap(({ workerId, last, overdue }) => {
    const again = `→ belay drill${isHostile ? ' --hostile' : ''} --worker ${workerId}`;
    if (last === undefined) return [`${style.warn('never'.padEnd(6))}  ${workerId}`, INDENT + again];
    const when = `${INDENT}at ${formatTime(last.at)} by ${cleanText(last.by)}`;
    const old = overdue ? [`${INDENT}its last pass is too old`, INDENT + again] : [];
    return [...renderDrill(last, style), when, ...old];
  });
}

function renderDrill(result: TimedDrill, style: Style): string[] {
  const { workerId, host, passed, detail, canaries, attacks = [] } = result;
  return [
    `${style.state(passed ? 'passed' : 'failed')}  ${workerId} on ${cleanText(host)}${describeTimes(canaries)}`,
    ...canaries.map((canary) => INDENT + describeCanary(canary)),
    ...attacks.map((attack) => INDENT + describeAttack(attack, style)),
    ...(attacks.some(({ outcome }) => outcome === 'named')
      ? [`${INDENT}named: possible for agents of the worker's own user, see docs/isolation.md`]
      : []),
    ...(detail === undefined ? [] : [INDENT + cleanText(detail)]),
    ...(passed ? [] : [`${INDENT}→ ${adviceFor(result)}`]),
  ];
}

/** `: asked to signalled 9 ms, asked to proved 232 ms`: the times of the slowest tree. */
function describeTimes(canaries: readonly TimedCanary[]): string {
  const signalled = slowest(canaries.map(({ signalledMs }) => signalledMs));
  const proved = slowest(canaries.map(({ provedMs }) => provedMs));
  const parts = [
    ...(signalled === undefined ? [] : [`asked to signalled ${signalled} ms`]),
    ...(proved === undefined ? [] : [`asked to proved ${proved} ms`]),
  ];
  return parts.length === 0 ? '' : `: ${parts.join(', ')}`;
}

/** Undefined where one is missing, since the slowest is then unknown. */
function slowest(times: readonly (number | undefined)[]): number | undefined {
  const known = times.filter((ms) => ms !== undefined);
  return known.length === 0 || known.length < times.length ? undefined : Math.round(Math.max(...known));
}

function describeCanary({ name, outcome, escalated, signalledMs, provedMs }: TimedCanary): string {
  const parts = [
    outcome === 'not-started' ? 'not started' : outcome,
    ...(signalledMs === undefined ? [] : [`signalled +${Math.round(signalledMs)} ms`]),
    ...(provedMs === undefined ? [] : [`proved +${Math.round(provedMs)} ms`]),
    ...(escalated === true ? ['needed SIGKILL'] : []),
  ];
  return `${cleanText(name).padEnd(NAME_WIDTH)}  ${parts.join(', ')}`;
}

/** `read-secrets         named: token, password`. */
function describeAttack({ name, outcome, detail }: AttackResult, style: Style): string {
  const word = outcome === 'broken' ? style.state('broken') : outcome;
  const rest = detail === undefined ? '' : `: ${cleanText(detail)}`;
  return `${cleanText(name).padEnd(ATTACK_WIDTH)}  ${word}${rest}`;
}

function adviceFor({ workerId, orderId, attacks }: TimedDrill): string {
  const again = `then: belay drill${attacks === undefined ? '' : ' --hostile'} --worker ${workerId}`;
  if (attacks?.some(({ outcome }) => outcome === 'broken') === true)
    return `see what an agent can reach: docs/isolation.md; ${again}`;
  return orderId === undefined
    ? `see what keeps its trees from starting: belay armed, belay latches, belay workers; ${again}`
    : `see the evidence: belay receipt ${orderId}; whether it could stop now: belay armed; ${again}`;
}
