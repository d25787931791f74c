import Table from 'cli-table3';
import { cut, displayWidth } from './width';

export interface TableShape {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns of the terminal; Infinity where the output is not one. */
  readonly width: number;
  /** The column that gives way when the table is too wide. */
  readonly flexible: number;
  /** Colours a cell after it was measured. */
  readonly paint?: (cell: string, column: number) => string;
}

/** Columns between two cells. */
const GAP = 2;
const NARROWEST = 8;
const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
};

/** A table without lines, its flexible column cut so that rows fit the terminal. */
export function renderTable(shape: TableShape): string {
  const all = [shape.head, ...shape.rows];
  const widths = shape.head.map((_, column) =>
    Math.max(...all.map((row) => displayWidth(row[column] ?? ''))),
  );
  const total = widths.reduce((sum, width) => sum + width + GAP, -GAP);
  const flexible = widths[shape.flexible] ?? 0;
  const room = total <= shape.width ? flexible : Math.max(NARROWEST, flexible - (total - shape.width));
  const table = new Table({
    head: [...shape.head],
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP, compact: true },
  });
  for (const row of shape.rows) {
    table.push(
      row.map((cell, column) => {
        const text = column === shape.flexible ? cut(cell, room) : cell;
        return shape.paint?.(text, column) ?? text;
      }),
    );
  }
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
