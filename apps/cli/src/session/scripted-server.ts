import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCli } from '../program';
import { scriptedProcess, type ScriptedProcess } from './scripted-process';

/** What the server answers, by method and path; a function takes the response over. */
export type Routes = Record<string, [number, unknown] | ((response: ServerResponse) => void)>;

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly cli: ScriptedProcess;
}

/** One command line in a process of its own making. */
export type RunBelay = (
  args: string[],
  options?: { readonly isTTY?: boolean; readonly answers?: string[] },
) => Promise<Ran>;

/** For specs: an orchestrator that answers from a list, new before each test. */
export interface ScriptedServer {
  readonly url: string;
  readonly cwd: string;
  /** Every request: method, path and body. */
  readonly asked: string[];
  readonly routes: Routes;
  readonly belay: RunBelay;
}

export function useScriptedServer(): ScriptedServer {
  let server: Server;
  let now = { url: '', cwd: '', asked: [] as string[], routes: {} as Routes };
  beforeEach(async () => {
    const { asked, routes } = (now = { ...now, asked: [], routes: {} });
    server = createServer((request, response) => {
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
    now.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    now.cwd = mkdtempSync(join(tmpdir(), 'belay-cli-'));
  });
  afterEach(async () => {
    rmSync(now.cwd, { recursive: true, force: true });
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    get url() {
      return now.url;
    },
    get cwd() {
      return now.cwd;
    },
    get asked() {
      return now.asked;
    },
    get routes() {
      return now.routes;
    },
    belay: async (args, options = {}) => {
      const cli = scriptedProcess({
        cwd: now.cwd,
        env: { BELAY_URL: now.url, BELAY_TOKEN: 't' },
        ...options,
      });
      const code = await runCli(args, cli);
      return { code, out: cli.written.stdout, err: cli.written.stderr, cli };
    },
  };
}
