import type { ExecutionRecord } from '#libs/contracts';
import { describeCounts, describeError } from '../execution/describe-execution';
import { doneNodes, endedAt, runtimeOf } from '../execution/execution-table';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { formatCost, formatDuration } from '../text/format';
import { cut } from '../text/width';
import type { ExecutionProgress } from './execution-progress';

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** The block that is redrawn on a terminal: never wider or higher than the terminal, and never wrapped. */
export function renderBlock(progress: ExecutionProgress, style: Style, size: Size, now: number): string[] {
  const { record } = progress;
  // The last column is left free: some terminals wrap a line that fills it.
  const width = Math.max(1, size.columns - 1);
  const lines = [headLine(progress, style, width, now), bar(record.nodes, width)];
  // One row stays free for the cursor.
  const room = Math.max(0, size.rows - 1 - lines.length);
  const endedRows = Math.min(progress.ended.length, Math.max(0, room - 1), 3);
  const running = [...progress.running.values()].sort((a, b) => a.since - b.since);
  const runningRoom = room - endedRows;
  const shown = running.length > runningRoom ? running.slice(0, Math.max(0, runningRoom - 1)) : running;
  for (const node of shown) {
    const attempt = node.attempt > 1 ? `  attempt ${node.attempt}` : '';
    const time = formatDuration(progress.toServerTime(now) - node.since);
    const tail = `  ${time}${attempt}`;
    lines.push(
      `  ${cut(node.nodeId, width - 2 - tail.length).padEnd(Math.min(24, width - 2 - tail.length))}${tail}`,
    );
  }
  if (shown.length < running.length && runningRoom > 0)
    lines.push(`  … and ${running.length - shown.length} more`);
  for (const node of endedRows === 0 ? [] : progress.ended.slice(-endedRows)) {
    const error = node.error === undefined ? '' : `: ${cleanText(node.error)}`;
    const text = cut(`${node.state.padEnd(9)} ${node.nodeId}${error}`, width - 2);
    lines.push(`  ${style.state(node.state)}${text.slice(node.state.length)}`);
  }
  return lines.slice(0, Math.max(1, size.rows - 1));
}

function headLine(progress: ExecutionProgress, style: Style, width: number, now: number): string {
  const { record } = progress;
  const ms = record.startedAt === undefined ? undefined : runtimeOf(record, progress.toServerTime(now));
  const time = ms === undefined ? '' : `  ${formatDuration(ms)}`;
  const cost = record.costUsd === 0 ? '' : `  ${formatCost(record.costUsd)}`;
  const room = width - `  ${record.state}${time}${cost}`.length;
  return `${style.strong(cut(cleanText(record.name), room))}  ${style.state(record.state)}${time}${cost}`;
}

/** `[######==......] 12/40 done, 4 running, 2 failed`: done, running and waiting nodes. */
function bar(nodes: ExecutionRecord['nodes'], width: number): string {
  const done = nodes.completed + nodes.failed + nodes.skipped + nodes.cancelled;
  const text = ` ${done}/${nodes.total} done, ${nodes.running} running${nodes.failed > 0 ? `, ${nodes.failed} failed` : ''}`;
  const cells = Math.min(40, width - text.length - 2);
  if (cells < 5) return cut(text.trim(), width);
  const total = Math.max(1, nodes.total);
  const doneCells = Math.floor((done / total) * cells);
  const runningCells = Math.min(cells - doneCells, Math.ceil((nodes.running / total) * cells));
  return `[${'#'.repeat(doneCells)}${'='.repeat(runningCells)}${'.'.repeat(cells - doneCells - runningCells)}]${text}`;
}

/** One line for output that is not a terminal. */
export function renderLine(record: ExecutionRecord, now: number): string {
  const runtime = runtimeOf(record, now) ?? 0;
  const { nodes } = record;
  const failed = nodes.failed > 0 ? `, ${nodes.failed} failed` : '';
  return `${record.state}: ${doneNodes(record)}/${nodes.total} nodes done, ${nodes.running} running${failed}, ${formatDuration(runtime)}`;
}

/** The last lines: the end state, the duration, the cost, and where to look further. */
export function renderEnd(record: ExecutionRecord, style: Style): string[] {
  const took = runtimeOf(record, endedAt(record) ?? Date.now());
  const time = took === undefined ? '' : ` in ${formatDuration(took)}`;
  const reason = record.reason === undefined ? '' : ` (${record.reason})`;
  const lines = [
    `${style.state(record.state)}${reason}  ${cleanText(record.name)}${time}, ${describeCounts(record.nodes)}, cost ${formatCost(record.costUsd)}`,
  ];
  if (record.error !== undefined) lines.push(describeError(record.error, style));
  if (record.state !== 'completed') lines.push(`Look with: belay get ${record.id}`);
  return lines;
}
