import type { ServerResponse } from 'node:http';
import type { BelayEvent } from '#libs/contracts';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const EXE = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV';

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ asked, routes, belay } = server));

const EVENTS: BelayEvent[] = [
  {
    id: '1-0',
    seq: 1,
    type: 'execution.running',
    entity: 'execution',
    executionId: EXE,
    to: 'running',
    at: 0,
  },
  {
    id: '1-1',
    seq: 2,
    type: 'node.failed',
    entity: 'node',
    executionId: EXE,
    nodeId: 'fetch',
    attempt: 2,
    to: 'failed',
    at: 61_000,
    reason: 'error',
    error: { code: 'EXIT', message: 'exit\u001b[2J code 1' },
  },
];

/** Sends the events, a gap, and then that the token is not valid any more: the client gives up at its next try. */
const stream =
  (path: string) =>
  (response: ServerResponse): void => {
    routes[path] = [401, { code: 'UNAUTHORIZED', detail: 'Revoked.' }];
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const frames = EVENTS.map((event, i) => `id: all.${i}\nevent: event\ndata: ${JSON.stringify(event)}\n\n`);
    response.end(`${frames.join('')}id: all.9\nevent: reset\ndata: {"reason":"failover"}\n\n`);
  };

describe('belay events', () => {
  it('prints one line for each event, and says where some are missing', async () => {
    const path = 'GET /api/events?type=execution%2Cnode.failed&state=running%2Cfailed&label=team%3Ddata';
    routes[path] = stream(path);
    const options = ['--type', 'execution,node.failed', '--state', 'running,failed', '-l', 'team=data'];
    const { code, out, err } = await belay(['events', ...options]);
    expect(out).toBe(
      `1970-01-01 00:00:00Z  execution.running     ${EXE}\n` +
        `1970-01-01 00:01:01Z  node.failed           ${EXE}  fetch  attempt 2  error  EXIT: exit[2J code 1\n`,
    );
    expect(err).toContain('events are missing here. List the executions with: belay ps --all');
    expect(err).toContain('connection lost');
    expect(code).not.toBe(0);
    expect(asked).toEqual([path, path]);
  });

  it('prints the events themselves with --json', async () => {
    const path = 'GET /api/events';
    routes[path] = stream(path);
    const { out } = await belay(['events', '--json']);
    expect(
      out
        .split('\n')
        .slice(0, 2)
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual(EVENTS);
  });

  it('refuses an unknown type or state, with the known ones', async () => {
    expect((await belay(['events', '--type', 'node.broken'])).err).toContain(
      '"node.broken" is not one of execution',
    );
    expect((await belay(['events', '--state', 'dead'])).err).toContain('"dead" is not one of idle');
    expect(asked).toEqual([]);
  });
});
