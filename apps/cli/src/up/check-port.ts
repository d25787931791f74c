import { createServer } from 'node:net';
import { createClient } from '#libs/client';
import { BelayError } from '#libs/contracts';
import type { DataDir } from '../session/data-dir';
import { readOrchestratorFile } from '../session/data-dir';

/**
 * Refuses with a clear line when another program listens there; port 0 takes any free port. @param command the typed command.
 */
export async function checkPort(
  host: string,
  port: number,
  dataDir: DataDir,
  command = 'belay up',
): Promise<void> {
  if (port === 0) return;
  const problem = await tryListen(host, port);
  if (problem === undefined) return;
  if (problem !== 'EADDRINUSE')
    throw new BelayError(
      'INVALID_SETTINGS',
      `Cannot listen on ${host}:${port}: ${problem}. Check BELAY_HTTP_HOST.`,
    );
  const by = await whoListens(host, port, dataDir);
  throw new BelayError(
    'INVALID_SETTINGS',
    `Port ${port} on ${host} is in use by ${by}. Take another one: ${command} --port ${port + 1}`,
  );
}

async function tryListen(host: string, port: number): Promise<string | undefined> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen(port, host, () => server.close(() => resolve(undefined)));
  });
}

async function whoListens(host: string, port: number, dataDir: DataDir): Promise<string> {
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  try {
    const { state } = await createClient({ url, timeoutMs: 1_000 }).health();
    if (state === 'unknown') return 'another program';
    const left = readOrchestratorFile(dataDir);
    return left?.url === url ? `a Belay that is up already (pid ${left.pid})` : 'another Belay';
  } catch {
    return 'another program';
  }
}
