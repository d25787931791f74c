import { execFile } from 'node:child_process';

/** The result of a command that ran to its end. */
export interface CommandResult {
  /** 0 only when it ran and succeeded. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The reason of the failure in a few words: `not found`, `no answer within 5 s`, or its last line on stderr. */
  readonly failure: string;
}

/** Runs a command without a shell and without stdin, for at most `timeoutMs`. Never throws. */
export function runCommand(
  command: string,
  args: readonly string[],
  options: { timeoutMs: number; env?: NodeJS.ProcessEnv; cwd?: string },
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = execFile(
      command,
      args,
      {
        timeout: options.timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: 16 * 1024 * 1024,
        env: { ...(options.env ?? process.env), LC_ALL: 'C' },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      },
      (error, stdout, stderr) => {
        if (error === null) return resolve({ code: 0, stdout, stderr, failure: '' });
        const code = typeof error.code === 'number' ? error.code : 1;
        resolve({ code, stdout, stderr, failure: describe(error, stderr, options.timeoutMs) });
      },
    );
    child.stdin?.end();
  });
}

function describe(
  error: Error & { code?: unknown; killed?: boolean },
  stderr: string,
  timeoutMs: number,
): string {
  if (error.code === 'ENOENT') return 'not found';
  if (error.killed === true) return `no answer within ${Math.round(timeoutMs / 1000)} s`;
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const told = lines.find((line) => line.startsWith('E: ')) ?? lines.at(-1);
  return (told ?? error.message).trim();
}
