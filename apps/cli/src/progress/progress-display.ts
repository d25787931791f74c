import type { ExecutionState } from '#libs/contracts';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import type { EndedNode, ExecutionProgress } from './execution-progress';
import { LiveBlock } from './live-block';
import { renderBlock, renderLine } from './render-progress';

/** Shows progress while it lasts. */
export interface ProgressDisplay {
  /** Something changed, or time has passed. */
  update(progress: ExecutionProgress): void;
  nodeEnded(node: EndedNode): void;
  /** Prints a line beside the progress, such as a lost connection. */
  say(line: string): void;
  close(): void;
}

/** Without a terminal, at most one progress line within this time. Milliseconds. */
const LINE_EVERY_MS = 2_000;
const FAILURES_NAMED = 20;

/** A redrawn block on a terminal, single lines elsewhere, nothing with --json. */
export function openDisplay(session: Session): ProgressDisplay {
  if (session.isJson) return { update: nothing, nodeEnded: nothing, say: nothing, close: nothing };
  return session.process.stderr.isTTY ? blockDisplay(session) : lineDisplay(session);
}

const nothing = (): void => undefined;

function blockDisplay(session: Session): ProgressDisplay {
  const { stderr } = session.process;
  const block = new LiveBlock(stderr);
  return {
    update: (progress) => block.draw(renderBlock(progress, session.err, stderr, Date.now())),
    nodeEnded: nothing,
    say(line) {
      block.clear();
      session.note(line);
    },
    close: () => block.clear(),
  };
}

function lineDisplay(session: Session): ProgressDisplay {
  let state: ExecutionState | undefined;
  let last = '';
  let lastAt = -Infinity;
  let failures = 0;
  return {
    update({ record }) {
      const line = renderLine(record, Date.now());
      const isNews = record.state !== state;
      const isDue = performance.now() - lastAt >= LINE_EVERY_MS && withoutTime(line) !== last;
      if (!isNews && !isDue) return;
      state = record.state;
      last = withoutTime(line);
      lastAt = performance.now();
      session.note(line);
    },
    nodeEnded(node) {
      if (node.state !== 'failed') return;
      failures++;
      if (failures <= FAILURES_NAMED)
        session.note(
          `node ${node.nodeId} failed${node.error === undefined ? '' : `: ${cleanText(node.error)}`}`,
        );
      if (failures === FAILURES_NAMED) session.note('further failures are only counted');
    },
    say: (line) => session.note(line),
    close: nothing,
  };
}

/** A line that differs only in its time has nothing new. */
function withoutTime(line: string): string {
  return line.slice(0, line.lastIndexOf(','));
}
