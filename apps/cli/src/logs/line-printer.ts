import type { LogFile, LogLine, OutputSize } from '#libs/contracts';
import type { Session } from '../session/session';
import { cleanLogLine, cleanText } from '../text/clean-text';

/** Prints the lines of one agent unchanged, and reports where some are missing. */
export class LinePrinter {
  hasGaps = false;
  #isOpen = false;

  constructor(private readonly session: Session) {}

  print(line: LogLine, file: LogFile | undefined): void {
    const { session } = this;
    if (line.skipped !== undefined) this.gap(line.skipped, file);
    if (session.isJson) return session.json(line);
    this.#isOpen = line.partial === true;
    // A file or a pipe gets the agent's bytes unchanged. For a terminal, control sequences are removed.
    if (!session.process.stdout.isTTY && line.base64 !== undefined)
      session.write(Buffer.from(line.base64, 'base64'));
    else {
      const text = session.process.stdout.isTTY ? cleanLogLine(line.line) : line.line;
      session.write(line.stream === 'stderr' ? session.out.dim(text) : text);
    }
    if (!this.#isOpen) session.write('\n');
  }

  /** Ends the line, so that later output on a terminal begins on a new one. */
  end(): void {
    if (this.#isOpen && this.session.process.stdout.isTTY) this.session.write('\n');
    this.#isOpen = false;
  }

  gap(skipped: OutputSize, file: LogFile | undefined): void {
    this.hasGaps = true;
    this.end();
    const where = file === undefined ? '' : `; they are in ${placeOf(file)}`;
    this.session.note(`… ${sizeOf(skipped)} left out here${where}`);
  }
}

const sizeOf = ({ lines, bytes }: OutputSize): string =>
  `${lines} ${lines === 1 ? 'line' : 'lines'} (${bytes} bytes)`;

const placeOf = ({ host, path }: LogFile): string => `${cleanText(path)} on ${cleanText(host)}`;

/** The server keeps the beginning and the end. The worker has the rest, unless the output exceeded its bound too. */
export function describeFile(total: OutputSize | undefined, file: LogFile | undefined): string {
  const all = total === undefined ? 'The whole output' : `The whole output, ${sizeOf(total)},`;
  if (file === undefined) return `${all} is on the agent's worker.`;
  const lost = file.lostBytes ?? 0;
  const rest =
    lost === 0
      ? ''
      : `, with its end in ${cleanText(file.path)}.1 and .2; ${lost} bytes in between were not kept`;
  return `${all} is in ${placeOf(file)}${rest}.`;
}
