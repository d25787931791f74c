import { gradeOf, type StopReport, type TargetReceipt } from '#libs/contracts';
import { cleanText } from '../text/clean-text';
import { formatDuration } from '../text/format';

/** This many pids are named; the others are counted. */
const PIDS_SHOWN = 8;
/** Signals within this time are one round of the same stop. Milliseconds. */
const SAME_ROUND_MS = 100;
/** A worker that began later than this gets a line about it. Milliseconds. */
const LATE_MS = 1_000;

/** The lines of one target: its process, its signals, and the evidence of its death; times from the placing of the order. */
export function describeTarget(target: TargetReceipt, paint: (outcome: string) => string): string[] {
  const head = `${paint(target.outcome.padEnd(13))} ${cleanText(target.nodeId)}  ${target.agentId} on ${target.workerId}`;
  const lines = target.report === undefined ? [] : describeReport(target.report, begunAfterMs(target));
  if (target.detail !== undefined) lines.push(cleanText(target.detail));
  if (target.report === undefined && target.detail === undefined) lines.push(WITHOUT_REPORT[target.outcome]);
  return [head, ...lines.map((line) => `${' '.repeat(14)}${line}`)];
}

const WITHOUT_REPORT: Readonly<Record<TargetReceipt['outcome'], string>> = {
  pending: 'its worker has not reported yet',
  killed: 'ended before a process was started',
  frozen: 'its tree was seen standing still',
  thawed: 'its tree runs again',
  'already-ended': 'had ended by itself before the order reached it',
  failed: 'no report',
  unconfirmed: 'no evidence yet',
};

/**
 * When the worker began, from the placing of the order: the times of its report count from there. 0 where that is unknown, as
 * for a kill without the server. Milliseconds.
 */
export function begunAfterMs({ latency, report }: Pick<TargetReceipt, 'latency' | 'report'>): number {
  const pairs = [
    [latency?.provedMs, report?.provedAfterMs],
    [latency?.signalledMs, report?.signalledAfterMs],
    [latency?.firstExitMs, report?.firstExitAfterMs],
  ] as const;
  for (const [asked, begun] of pairs)
    if (asked !== undefined && begun !== undefined) return Math.max(0, asked - begun);
  return 0;
}

function describeReport(report: StopReport, begunMs: number): string[] {
  const lines: string[] = [];
  if (begunMs > LATE_MS) lines.push(`its worker began ${formatDuration(begunMs)} after the order was placed`);
  if (report.processes.length > 0) lines.push(`pids ${listProcesses(report.processes)}`);
  if (report.signals.length > 0) lines.push(describeSignals(report.signals, begunMs));
  const evidence = report.evidence
    .map(({ kind, afterMs }) =>
      afterMs === undefined ? kind : `${kind} +${Math.round(begunMs + afterMs)} ms`,
    )
    .join(', ');
  lines.push(`${evidence === '' ? 'no evidence' : evidence}; ${describeProof(report, begunMs)}`);
  // Another process than its worker proved it, and has no times: name that process.
  for (const { afterMs, detail } of report.evidence)
    if (afterMs === undefined && detail !== undefined) lines.push(cleanText(detail));
  if (report.survivors.length > 0) lines.push(`still alive: pids ${listProcesses(report.survivors)}`);
  return lines;
}

/** `SIGTERM to 4 processes +0 ms, SIGKILL to cgroup +2001 ms`: each signal once, with all its receivers. */
function describeSignals(signals: StopReport['signals'], begunMs: number): string {
  const groups: { signal: string; to: string; pids: Set<number>; from: number; until: number }[] = [];
  for (const { signal, to, pid, afterMs } of signals) {
    // NaN: not measured.
    const at = Math.round(begunMs + (afterMs ?? NaN));
    let group = groups.findLast((known) => known.signal === signal && known.to === to);
    // The same signal much later is another round, and gets a line of its own.
    if (group === undefined || at - group.until > SAME_ROUND_MS)
      groups.push((group = { signal, to, pids: new Set(), from: at, until: at }));
    if (pid !== undefined) group.pids.add(pid);
    group.until = at;
  }
  return groups
    .map(({ signal, to, pids, from, until }) => {
      const [pid] = pids;
      const target = pids.size > 1 ? `${pids.size} processes` : to + (pid === undefined ? '' : ` ${pid}`);
      const times = Number.isNaN(from) ? '' : ` +${from}${until > from ? `..${until}` : ''} ms`;
      return `${signal} to ${target}${times}`;
    })
    .join(', ');
}

function describeProof(report: StopReport, begunMs: number): string {
  if (!report.proved) return 'not proved dead';
  const by = gradeOf(report) === 'marks' ? ', by marks' : '';
  return report.provedAfterMs === undefined
    ? `proved dead${by}`
    : `proved dead after ${Math.round(begunMs + report.provedAfterMs)} ms${by}`;
}

function listProcesses(processes: StopReport['processes']): string {
  const shown = processes.slice(0, PIDS_SHOWN).map(({ pid, command }) => {
    const name = command === undefined ? '' : cleanText(command).slice(0, 24);
    return name === '' ? String(pid) : `${pid} (${name})`;
  });
  const more = processes.length - shown.length;
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
