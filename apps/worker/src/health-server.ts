import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { WorkerState } from '#libs/contracts';

/** The health answer, given without a token. */
export interface HealthBody {
  readonly state: WorkerState;
  readonly workerId: string;
  readonly running: number;
}

/**
 * `/health`: 200 while running or draining, else 503; `/health/live`: 200 while the process is sound, draining included;
 * `/health/ready`: 200 only while running (docs/http-api.md#health). `/metrics` counts, and names nobody. On loopback by
 * default; no token.
 */
export async function startHealthServer(
  host: string,
  port: number,
  body: () => HealthBody,
  metrics: () => Promise<string>,
): Promise<{ server: Server; port: number }> {
  const server = createServer((request, response) => {
    if (request.url === '/metrics') return void sendMetrics(response, metrics);
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

async function sendMetrics(response: ServerResponse, metrics: () => Promise<string>): Promise<void> {
  const text = await metrics();
  response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text);
}
