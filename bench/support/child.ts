import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const READY_MS = 20_000;
const END_MS = 8_000;
const SAID_KEPT = 4_000;

/** A process that a benchmark started, and its first message. */
export interface Child<T = unknown> {
  readonly process: ChildProcess;
  readonly ready: T;
}

/** Starts a program of the build and waits for its first message. */
export async function startChild<T>(
  entry: string,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Child<T>> {
  const child = fork(entry, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    detached: true,
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-SAID_KEPT)));
  const ended = once(child, 'exit').then(([code, signal]: unknown[]) => {
    throw new Error(`${entry} ended (${String(signal ?? code)}) before it was ready:\n${said}`);
  });
  ended.catch(() => undefined);
  const message = once(child, 'message', { signal: AbortSignal.timeout(READY_MS) });
  try {
    const [ready] = (await Promise.race([message, ended])) as [T];
    return { process: child, ready };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

/** Asks the process to end, and kills it when it does not. */
export async function endChild({ process: child }: Child): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
  await exited;
  clearTimeout(timer);
}

/** A directory for one benchmark; removed at the latest with this process. */
export function makeTempDir(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'belay-bench-'));
  const remove = (): void => {
    process.off('exit', remove);
    rmSync(path, { recursive: true, force: true });
  };
  process.on('exit', remove);
  return { path, remove };
}
