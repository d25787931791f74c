import { Readable } from 'node:stream';
import type { CliProcess } from '../../apps/cli/src/session/cli-process';

/** A process for specs: it keeps all output, and answers questions from a list. */
export interface ScriptedProcess extends CliProcess {
  readonly written: { stdout: string; stderr: string };
  readonly exits: number[];
  /** What was written to stdout, unchanged. */
  bytes(): Buffer;
  /** Sends a signal to every listener. */
  send(signal: NodeJS.Signals): void;
}

export function scriptedProcess(options: {
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly isTTY?: boolean;
  readonly answers?: string[];
  /** The lines of stdin. */
  readonly input?: readonly string[];
}): ScriptedProcess {
  const written = { stdout: '', stderr: '' };
  const listeners = new Set<(signal: NodeJS.Signals) => void>();
  const chunks: Buffer[] = [];
  const exits: number[] = [];
  const isTTY = options.isTTY === true;
  const terminal = (name: 'stdout' | 'stderr'): CliProcess['stdout'] => ({
    isTTY,
    columns: 100,
    rows: 24,
    write: (text) => {
      if (name === 'stdout') chunks.push(Buffer.from(text));
      written[name] += text;
    },
  });
  return {
    env: { NO_COLOR: '1', ...options.env },
    cwd: options.cwd,
    stdout: terminal('stdout'),
    stderr: terminal('stderr'),
    stdin: Readable.from((options.input ?? []).map((line) => `${line}\n`)),
    stdinIsTTY: isTTY,
    outputClosed: new AbortController().signal,
    written,
    exits,
    bytes: () => Buffer.concat(chunks),
    async ask(question) {
      written.stderr += question;
      return options.answers?.shift();
    },
    onSignal(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    closeToOthers: () => undefined,
    exit: (code) => exits.push(code),
    send: (signal) => [...listeners].forEach((listener) => listener(signal)),
  };
}
