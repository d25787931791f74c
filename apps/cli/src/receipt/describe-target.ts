import type { StopReport, TargetReceipt } from '#libs/contracts';
import { cleanText } from '../text/clean-text';
import { formatDuration } from '../text/format';

/** Pids named before the rest is counted. */
const PIDS_SHOWN = 8;

/** The lines of one target: what was hit, with what, and how its death was seen. */
export function describeTarget(target: TargetReceipt, paint: (outcome: string) => string): string[] {
  const head = `${paint(target.outcome.padEnd(13))} ${cleanText(target.nodeId)}  ${target.agentId} on ${target.workerId}`;
  const lines = target.report === undefined ? [] : describeReport(target.report);
  if (target.detail !== undefined) lines.push(cleanText(target.detail));
  if (target.report === undefined && target.detail === undefined) lines.push(WITHOUT_REPORT[target.outcome]);
  return [head, ...lines.map((line) => `${' '.repeat(14)}${line}`)];
}

const WITHOUT_REPORT: Readonly<Record<TargetReceipt['outcome'], string>> = {
  pending: 'its worker has not reported yet',
  killed: 'ended before a process was started',
  'already-ended': 'had ended by itself before the order reached it',
  failed: 'no report',
  unconfirmed: 'no evidence yet',
};

function describeReport(report: StopReport): string[] {
  const lines: string[] = [];
  if (report.processes.length > 0) lines.push(`pids ${listProcesses(report.processes)}`);
  if (report.signals.length > 0) lines.push(report.signals.map(describeSignal).join(', '));
  const evidence = report.evidence.map(({ kind, afterMs }) => `${kind} +${Math.round(afterMs)} ms`).join(', ');
  lines.push(`${evidence === '' ? 'no evidence' : evidence}; ${describeProof(report)}`);
  if (report.survivors.length > 0) lines.push(`still alive: pids ${listProcesses(report.survivors)}`);
  return lines;
}

function describeSignal({ signal, to, pid, afterMs }: StopReport['signals'][number]): string {
  return `${signal} to ${to}${pid === undefined ? '' : ` ${pid}`} +${Math.round(afterMs)} ms`;
}

function describeProof(report: StopReport): string {
  if (!report.proved) return 'not proved dead';
  return report.provedAfterMs === undefined
    ? 'proved dead'
    : `proved dead after ${formatDuration(report.provedAfterMs)}`;
}

function listProcesses(processes: StopReport['processes']): string {
  const shown = processes.slice(0, PIDS_SHOWN).map(({ pid, command }) => {
    const name = command === undefined ? '' : cleanText(command).slice(0, 24);
    return name === '' ? String(pid) : `${pid} (${name})`;
  });
  const more = processes.length - shown.length;
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
