import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A message as a receiver got it. */
export interface Got {
  readonly id: string;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly headers: IncomingHttpHeaders;
  /** Whether the signature is that of one of the secrets, by the text of Standard Webhooks. */
  readonly isSigned: boolean;
}

/** What the receiver answers: an HTTP status; `hang`: no answer. */
export type Answer = number | 'hang';

export interface Receiver {
  readonly url: string;
  readonly secret: string;
  readonly got: readonly Got[];
  stop(): Promise<void>;
}

/** A receiver of webhooks on loopback. `answer` decides on the message number `count`, from 1. */
export async function startReceiver(
  answer: (count: number, got: Got, response: ServerResponse) => Answer = () => 204,
): Promise<Receiver> {
  const secret = `whsec_${randomBytes(32).toString('base64')}`;
  const got: Got[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
    request.on('end', () => {
      const { type, data } = JSON.parse(body) as Pick<Got, 'type' | 'data'>;
      const { headers } = request;
      const id = String(headers['webhook-id']);
      const message = { id, type, data, headers, isSigned: isSigned(headers, body, secret) };
      got.push(message);
      const status = answer(got.length, message, response);
      if (status !== 'hang' && !response.writableEnded) response.writeHead(status).end('noted');
    });
  });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}/path-that-is-secret`,
    secret,
    got,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return (server.address() as AddressInfo).port;
}

/**
 * Written from the text of Standard Webhooks, not from Belay's code: the signed content is the id, the timestamp and the body
 * with dots between; the header has signatures with spaces between, each a version, a comma and base64.
 */
function isSigned(headers: IncomingHttpHeaders, body: string, secret: string): boolean {
  const seconds = Number(headers['webhook-timestamp']);
  if (!Number.isInteger(seconds) || Math.abs(Date.now() / 1_000 - seconds) > 300) return false;
  const content = [headers['webhook-id'], headers['webhook-timestamp'], body].join('.');
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const expected = createHmac('sha256', key).update(content).digest();
  return String(headers['webhook-signature'])
    .split(' ')
    .filter((one) => one.startsWith('v1,'))
    .map((one) => Buffer.from(one.slice(3), 'base64'))
    .some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}

/** A file for BELAY_WEBHOOKS_FILE, with the secrets beside it, in a folder of its own. */
export function writeWebhooks(
  endpoints: readonly { name: string; url: string; secret: string; events: readonly string[] }[],
  more: object = {},
): { file: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'belay-webhooks-'));
  const list = endpoints.map(({ name, url, secret, events }) => {
    writeFileSync(join(folder, `${name}.secret`), `${secret}\n`, { mode: 0o600 });
    return { name, url, secretFile: `${name}.secret`, events };
  });
  const file = join(folder, 'webhooks.json');
  writeFileSync(file, JSON.stringify({ endpoints: list, ...more }));
  return { file, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
