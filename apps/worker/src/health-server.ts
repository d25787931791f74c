import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { WorkerState } from '#libs/contracts';

/** What a probe may see without a token. */
export interface HealthBody {
  readonly state: WorkerState;
  readonly workerId: string;
  readonly running: number;
}

/**
 * `/health` 200 while running or draining, else 503; `/health/live` 200 while the process is sound, draining included;
 * `/health/ready` 200 only while running (R49). Loopback unless told otherwise; no token, no data beyond the state.
 */
export async function startHealthServer(
  host: string,
  port: number,
  body: () => HealthBody,
): Promise<{ server: Server; port: number }> {
  const server = createServer((request, response) => {
    const health = body();
    const sound = health.state === 'running' || health.state === 'draining';
    const ok: Record<string, boolean> = {
      '/health': sound,
      '/health/live': health.state !== 'stopped',
      '/health/ready': health.state === 'running',
    };
    const answer = ok[request.url ?? ''];
    response.writeHead(answer === undefined ? 404 : answer ? 200 : 503, {
      'content-type': 'application/json',
    });
    response.end(JSON.stringify(answer === undefined ? { code: 'NOT_FOUND' } : health));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return { server, port: (server.address() as AddressInfo).port };
}
