import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/**
 * Splits a byte stream into lines: UTF-8 across chunk borders (what is not UTF-8 becomes U+FFFD), at most `maxLength`
 * characters a line; what is beyond is dropped and said so by `cut`. Memory is bounded by one line and one chunk.
 */
export class LineReader {
  readonly #decoder = new StringDecoder('utf8');
  #line = '';
  #cut = false;

  constructor(
    private readonly maxLength: number,
    private readonly onLine: (line: string, cut: boolean) => void,
  ) {}

  write(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** Hands out a last line that has no newline. */
  end(): void {
    this.#take(this.#decoder.end());
    if (this.#line !== '' || this.#cut) this.#flush();
  }

  #take(text: string): void {
    let from = 0;
    for (;;) {
      const newline = text.indexOf('\n', from);
      this.#append(text.slice(from, newline < 0 ? undefined : newline));
      if (newline < 0) return;
      this.#flush();
      from = newline + 1;
    }
  }

  #append(piece: string): void {
    const room = this.maxLength - this.#line.length;
    if (piece.length > room) this.#cut = true;
    this.#line += piece.length > room ? piece.slice(0, room) : piece;
  }

  #flush(): void {
    const line = this.#line;
    const cut = this.#cut;
    this.#line = '';
    this.#cut = false;
    this.onLine(line, cut);
  }
}

/** Feeds a stream to a reader, its last line included. Stream errors end it like its end does. */
export function readLines(stream: Readable, reader: LineReader): void {
  stream.on('data', (chunk: Buffer) => reader.write(chunk));
  stream.once('close', () => reader.end());
  stream.on('error', () => {}); // 'close' follows
}
