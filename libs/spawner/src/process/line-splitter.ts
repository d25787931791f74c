import type { Readable } from 'node:stream';

const NEWLINE = 0x0a;

/** How a piece ends: with the line's newline, at the limit of a piece (the line goes on), or with the stream. */
export type PieceEnd = 'newline' | 'limit' | 'close';

/**
 * Splits bytes into lines without decoding them, so that every byte is handed on unchanged. A line longer than `maxBytes` comes
 * in several pieces; UTF-8 is cut between two characters. Memory is bounded by one piece and one chunk.
 */
export class LineSplitter {
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(
    private readonly maxBytes: number,
    private readonly onPiece: (piece: Buffer, end: PieceEnd) => void,
  ) {}

  /** @returns the number of newlines in the chunk. */
  write(chunk: Buffer): number {
    let lines = 0;
    let from = 0;
    while (from < chunk.length) {
      const newline = chunk.indexOf(NEWLINE, from);
      this.#append(chunk.subarray(from, newline < 0 ? undefined : newline));
      if (newline < 0) return lines;
      this.onPiece(this.#take(), 'newline');
      lines += 1;
      from = newline + 1;
    }
    return lines;
  }

  /** Hands on a last line that has no newline. */
  end(): void {
    if (this.#heldBytes > 0) this.onPiece(this.#take(), 'close');
  }

  #append(bytes: Buffer): void {
    let rest = bytes;
    while (this.#heldBytes + rest.length > this.maxBytes) {
      const room = this.maxBytes - this.#heldBytes;
      this.#hold(rest.subarray(0, room));
      rest = rest.subarray(room);
      const full = this.#take();
      const cut = wholeCharacters(full);
      this.onPiece(full.subarray(0, cut), 'limit');
      this.#hold(full.subarray(cut));
    }
    this.#hold(rest);
  }

  #hold(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
  }

  #take(): Buffer {
    const [first] = this.#held;
    const taken = this.#held.length === 1 && first !== undefined ? first : Buffer.concat(this.#held);
    this.#held = [];
    this.#heldBytes = 0;
    return taken;
  }
}

/** The bytes up to the last complete character; all of them where the end is no UTF-8. */
function wholeCharacters(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length - 1); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return size > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** Calls back with each line of a stream as text; a longer line is cut at `maxBytes`. */
export function readLines(stream: Readable, maxBytes: number, onLine: (line: string) => void): void {
  let isRest = false;
  const splitter = new LineSplitter(maxBytes, (piece, end) => {
    if (!isRest) onLine(piece.toString());
    isRest = end === 'limit';
  });
  stream.on('data', (chunk: Buffer) => splitter.write(chunk));
  stream.once('close', () => splitter.end());
  stream.on('error', () => {}); // 'close' follows
}
