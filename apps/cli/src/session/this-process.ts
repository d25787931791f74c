import { createInterface } from 'node:readline/promises';
import { closeProcess } from '#libs/service';
import type { CliProcess, Terminal } from './cli-process';

/** The real process, safe against readers that go away. */
export function thisProcess(): CliProcess {
  const closed = new AbortController();
  return {
    env: process.env,
    cwd: process.cwd(),
    stdout: terminal(process.stdout, () => closed.abort()),
    stderr: terminal(process.stderr, () => undefined),
    // Made at its first use: a command that reads no stdin must not wait for it.
    get stdin() {
      return process.stdin;
    },
    stdinIsTTY: process.stdin.isTTY,
    outputClosed: closed.signal,
    ask,
    onSignal(listener) {
      const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
      for (const signal of signals) process.on(signal, listener);
      return () => {
        for (const signal of signals) process.off(signal, listener);
      };
    },
    closeToOthers: () => closeProcess(process.env['BELAY_NATIVE'] === 'off' ? 'off' : 'auto'),
    exit: (code) => process.exit(code),
  };
}

/** A stream whose reader went away (`| head`, a closed terminal) drops the rest and raises no error. */
function terminal(stream: NodeJS.WriteStream, onClosed: () => void): Terminal {
  let isClosed = false;
  stream.on('error', () => {
    isClosed = true;
    onClosed();
  });
  return {
    get isTTY() {
      return stream.isTTY;
    },
    get columns() {
      return stream.columns > 0 ? stream.columns : 80;
    },
    get rows() {
      return stream.rows > 0 ? stream.rows : 24;
    },
    write(text) {
      if (!isClosed) stream.write(text);
    },
  };
}

async function ask(question: string): Promise<string | undefined> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    // A closed stdin settles no question, so `close` does.
    return await Promise.race([
      lines.question(question),
      new Promise<undefined>((resolve) => lines.once('close', () => resolve(undefined))),
    ]);
  } finally {
    lines.close();
  }
}
