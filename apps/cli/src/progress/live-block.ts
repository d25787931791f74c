import type { Terminal } from '../session/cli-process';

/** A block of lines on a terminal that is drawn over itself. */
export class LiveBlock {
  private drawn = 0;

  constructor(private readonly terminal: Terminal) {}

  /** Replaces the drawn lines, in one write so that nothing flickers. Lines must not be wider than the terminal. */
  draw(lines: readonly string[]): void {
    this.terminal.write(this.back() + lines.map((line) => `${line}\n`).join(''));
    this.drawn = lines.length;
  }

  /** Removes the block; the next output takes its place. */
  clear(): void {
    if (this.drawn > 0) this.terminal.write(this.back());
    this.drawn = 0;
  }

  private back(): string {
    // From the first column: the terminal may have echoed a ^C behind the block.
    return this.drawn === 0 ? '' : `\r\u001b[${this.drawn}A\u001b[0J`;
  }
}
