import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCli } from '../../apps/cli/src/program';
import { scriptedProcess, type ScriptedProcess } from './scripted-process';

/** The server's answers, by method and path; a function handles the response itself. */
export type Routes = Record<string, [number, unknown] | ((response: ServerResponse) => void)>;

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly cli: ScriptedProcess;
}

/** For specs: an orchestrator that answers from a list. */
export interface ScriptedServer {
  readonly url: string;
  /** An empty folder of its own. */
  readonly cwd: string;
  /** Every request: method, path and body. */
  readonly asked: string[];
  readonly routes: Routes;
  /** Runs one command line in a scripted process that uses this server. */
  belay(
    args: readonly string[],
    options?: {
      readonly isTTY?: boolean;
      readonly answers?: string[];
      /** The lines of stdin. */
      readonly input?: readonly string[];
      /** Added to the address and the token. */
      readonly env?: NodeJS.ProcessEnv;
    },
  ): Promise<Ran>;
  close(): Promise<void>;
}

export async function startScriptedServer(): Promise<ScriptedServer> {
  const asked: string[] = [];
  const routes: Routes = {};
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const route = `${request.method} ${request.url}`;
      asked.push(body === '' ? route : `${route} ${body}`);
      const answer = routes[route] ?? [404, { code: 'NOT_FOUND', detail: `No route ${route}.` }];
      if (typeof answer === 'function') return answer(response);
      response.writeHead(answer[0], { 'content-type': 'application/json' }).end(JSON.stringify(answer[1]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const cwd = mkdtempSync(join(tmpdir(), 'belay-cli-'));
  return {
    url,
    cwd,
    asked,
    routes,
    async belay(args, { env, ...options } = {}) {
      const cli = scriptedProcess({ cwd, env: { BELAY_URL: url, BELAY_TOKEN: 't', ...env }, ...options });
      const code = await runCli(args, cli);
      return { code, out: cli.written.stdout, err: cli.written.stderr, cli };
    },
    async close() {
      rmSync(cwd, { recursive: true, force: true });
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A scripted orchestrator for each test of a file; `onReady` is given it before the test. */
export function useScriptedServer(onReady: (server: ScriptedServer) => void): void {
  let server: ScriptedServer | undefined;
  beforeEach(async () => {
    server = await startScriptedServer();
    onReady(server);
  });
  afterEach(async () => server?.close());
}
