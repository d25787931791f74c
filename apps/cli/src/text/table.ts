import Table from 'cli-table3';
import { cut, displayWidth } from './width';

export interface TableShape {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns of the terminal; Infinity where the output is not one. */
  readonly width: number;
  /** The column that is cut first when the table is too wide. */
  readonly flexible: number;
  /** Colours a cell after its width was measured. */
  readonly paint?: (cell: string, column: number) => string;
}

/** Columns between two cells. */
const GAP = 2;
const NARROWEST = 8;
/** Columns of words are cut to this, if the table is still too wide. */
const LEAST_WORDS = 9;
/** A column that is narrower shows nothing useful. */
const LEAST_SHOWN = 4;
const ID = /^(exe|agt|wrk|ord|lat|ask)_/;
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

/** A table without lines, cut to the terminal: first the flexible column, then columns of words, then the last column. */
export function renderTable(shape: TableShape): string {
  const all = [shape.head, ...shape.rows];
  const widths = shape.head.map((_, column) =>
    Math.max(...all.map((row) => displayWidth(row[column] ?? ''))),
  );
  const room = fitColumns(widths, shape);
  const table = new Table({
    head: shape.head.slice(0, room.length).map((cell, column) => cut(cell, room[column] ?? 0)),
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP, compact: true },
  });
  for (const row of shape.rows) {
    table.push(
      row.slice(0, room.length).map((cell, column) => {
        const text = cut(cell, room[column] ?? 0);
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

/** The width of each column; columns at the end that do not fit at all are left out. */
function fitColumns(widths: readonly number[], { width, flexible, rows }: TableShape): number[] {
  const room = [...widths];
  const over = (): number => room.reduce((sum, one) => sum + one + GAP, -GAP) - width;
  const shrink = (column: number, least: number): void => {
    const now = room[column] ?? 0;
    room[column] = Math.max(Math.min(now, least), now - Math.max(0, over()));
  };
  shrink(flexible, NARROWEST);
  // A cut id names nothing.
  const isOfIds = (column: number): boolean => rows.some((row) => ID.test(row[column] ?? ''));
  const words = room.map((_, column) => column).filter((column) => !isOfIds(column));
  for (const column of words.toSorted((a, b) => (room[b] ?? 0) - (room[a] ?? 0))) shrink(column, LEAST_WORDS);
  while (room.length > 1 && over() > 0) {
    const last = room.length - 1;
    if (!isOfIds(last)) shrink(last, LEAST_SHOWN);
    if (over() > 0) room.pop();
  }
  return room;
}
