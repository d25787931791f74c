import { EXECUTION_MACHINE, isEnded, type ExecutionRecord } from '#libs/contracts';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { formatCost, formatDuration } from '../text/format';
import { renderTable } from '../text/table';
import { shownState } from './describe-pause';

/** The time of its end; undefined before. */
export function endedAt(record: ExecutionRecord): number | undefined {
  if (!isEnded(EXECUTION_MACHINE, record.state)) return undefined;
  return record.completedAt ?? record.stoppedAt;
}

/** Milliseconds from its start to its end, or to now. */
export function runtimeOf(record: ExecutionRecord, now: number): number | undefined {
  if (record.startedAt === undefined) return undefined;
  return Math.max(0, (endedAt(record) ?? now) - record.startedAt);
}

/** The number of nodes with nothing left to do. */
export function doneNodes(record: ExecutionRecord): number {
  const { completed, failed, skipped, cancelled } = record.nodes;
  return completed + failed + skipped + cancelled;
}

/** One row for each execution. */
export function renderExecutions(
  records: readonly ExecutionRecord[],
  style: Style,
  width: number,
  now: number,
): string {
  return renderTable({
    head: ['EXECUTION', 'NAME', 'STATE', 'NODES', 'RUNNING', 'TIME', 'COST'],
    rows: records.map((record) => {
      const runtime = runtimeOf(record, now);
      return [
        record.id,
        cleanText(record.name),
        shownState(record),
        `${record.nodes.completed}/${record.nodes.total}`,
        String(record.live),
        runtime === undefined ? '-' : formatDuration(runtime),
        formatCost(record.costUsd),
      ];
    }),
    width,
    flexible: 1,
    paint: (cell, column) => (column === 2 ? style.state(cell) : cell),
  });
}
