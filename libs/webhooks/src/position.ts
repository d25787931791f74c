/** A place in the stream of control events: the entry's id, and the number of its event, which has no gap. */
export interface Position {
  readonly id: string;
  readonly seq: number;
}

export const START: Position = { id: '0-0', seq: 0 };

export const showPosition = ({ id, seq }: Position): string => `${id} ${seq}`;

/** A cursor that cannot be read is the start: its endpoint gets events once more, and loses none. */
export function parsePosition(text: string): Position {
  const [, id, seq] = /^(\d{1,15}-\d{1,15}) (\d{1,15})$/.exec(text) ?? [];
  return id === undefined ? START : { id, seq: Number(seq) };
}

/** Whether the entry `a` comes after `b`. */
export function isAfter(a: string, b: string): boolean {
  const [aMs = 0, aSeq = 0] = a.split('-').map(Number);
  const [bMs = 0, bSeq = 0] = b.split('-').map(Number);
  return aMs === bMs ? aSeq > bSeq : aMs > bMs;
}
