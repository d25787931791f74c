import type { ServerResponse } from 'node:http';
import { EXIT } from '../exit-codes';
import { runCli } from '../program';
import { scriptedProcess } from '../../../../test/support/scripted-process';
import { useScriptedServer, type ScriptedServer } from '../../../../test/support/scripted-server';

const EXE = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV';
const PATH = 'GET /api/executions?state=idle%2Crunning%2Cpaused%2Cstopping&limit=200';
const named = (name: string): object => ({
  id: EXE,
  name,
  state: 'running',
  labels: {},
  createdAt: 1,
  costUsd: 0,
  nodes: { total: 1, completed: 0 },
  live: 1,
});

let server: ScriptedServer;
useScriptedServer((made) => (server = made));

describe('belay ps --watch', () => {
  it('draws the list over itself, tells an outage below it, and ends by Ctrl-C', async () => {
    const env = { BELAY_URL: server.url, BELAY_TOKEN: 't' };
    const cli = scriptedProcess({ cwd: server.cwd, env, isTTY: true });
    const answers: ((response: ServerResponse) => void)[] = [
      (response) => response.writeHead(200).end(JSON.stringify({ items: [named('first\u001b[2J')] })),
      (response) => {
        const told = { code: 'SERVER_UNREACHABLE', detail: 'The server is away.', status: 503 };
        response.writeHead(503, { 'content-type': 'application/problem+json' }).end(JSON.stringify(told));
      },
      (response) => {
        response.writeHead(200).end(JSON.stringify({ items: [] }));
        setImmediate(() => cli.send('SIGINT'));
      },
    ];
    server.routes[PATH] = (response) => (answers.shift() ?? (() => cli.send('SIGINT')))(response);
    expect(await runCli(['ps', '--watch'], cli)).toBe(EXIT.interrupted);
    const drawn = cli.written.stdout.split('\u001b[0J');
    expect(drawn[0]).toContain(`${EXE}  first[2J  running`);
    expect(drawn[1]).toContain('The server is away.');
    expect(drawn[1]).toContain(`${EXE}  first`);
  });

  it.each([[['ps', '--watch']], [['ps', '--watch', '--json']]])('%j needs a terminal', async (args) => {
    const { code, err } = await server.belay(args);
    expect(code).toBe(EXIT.usage);
    expect(err).toContain('--watch draws on a terminal');
    expect(server.asked).toEqual([]);
  });

  it('fails like any other list where nothing answers at first', async () => {
    const url = 'http://127.0.0.1:2';
    expect(await server.belay(['ps', '--watch', '--url', url], { isTTY: true })).toMatchObject({
      code: EXIT.unreachable,
    });
  });
});
