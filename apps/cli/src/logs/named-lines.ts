import type { LogLine } from '#libs/contracts';
import type { Session } from '../session/session';
import { cleanLogLine, cleanText } from '../text/clean-text';
import { cut, displayWidth } from '../text/width';

/** Names of nodes are cut to this many columns. */
const WIDEST_NAME = 24;
/** A line that has no end yet is printed in pieces of this size. Bytes. */
const LONGEST_PIECE = 64 * 1024;

/** The lines of several agents on one output: each behind the name of its node, and whole, since others may come between. */
export class NamedLines {
  #width = 0;
  readonly #open = new Map<string, Buffer[]>();

  constructor(private readonly session: Session) {}

  /** Makes room for the name, so that the lines begin in one column. */
  expect(nodeId: string): void {
    this.#width = Math.max(this.#width, displayWidth(nameOf(nodeId)));
  }

  print(nodeId: string, agentId: string, line: LogLine): void {
    const { session } = this;
    if (session.isJson) return session.json({ nodeId, agentId, ...line });
    if (line.skipped !== undefined) {
      this.end(nodeId, agentId);
      const { lines, bytes } = line.skipped;
      session.note(`${this.#head(nodeId)}… ${lines} lines (${bytes} bytes) left out here`);
    }
    const key = `${agentId} ${line.stream}`;
    const pieces = this.#open.get(key) ?? [];
    pieces.push(line.base64 === undefined ? Buffer.from(line.line) : Buffer.from(line.base64, 'base64'));
    const size = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (line.partial === true && size < LONGEST_PIECE) this.#open.set(key, pieces);
    else this.#write(nodeId, key, line.stream, pieces);
  }

  /** Prints what has no end of line: the agent has ended. */
  end(nodeId: string, agentId: string): void {
    for (const stream of ['stdout', 'stderr'] as const) {
      const pieces = this.#open.get(`${agentId} ${stream}`);
      if (pieces !== undefined) this.#write(nodeId, `${agentId} ${stream}`, stream, pieces);
    }
  }

  #write(nodeId: string, key: string, stream: LogLine['stream'], pieces: readonly Buffer[]): void {
    const { session } = this;
    this.#open.delete(key);
    const bytes = Buffer.concat(pieces);
    session.write(session.out.strong(this.#head(nodeId)));
    if (session.process.stdout.isTTY) {
      const text = cleanLogLine(bytes.toString());
      session.write(stream === 'stderr' ? session.out.dim(text) : text);
    } else session.write(bytes);
    session.write('\n');
  }

  #head(nodeId: string): string {
    const name = nameOf(nodeId);
    return `${name}${' '.repeat(Math.max(0, this.#width - displayWidth(name)))} | `;
  }
}

const nameOf = (nodeId: string): string => cut(cleanText(nodeId), WIDEST_NAME);
