import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { BelayError, BelayEvent, ExecutionRecord } from '#libs/contracts';
import { createClient } from './create-client';
import { followAllEvents, followEvents, isTerminalEvent } from './follow-events';
import type { Transport } from './send-request';

const EXE = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV';
const PATH = `/api/executions/${EXE}/events`;

const event = (n: number, more: Partial<BelayEvent> = {}): BelayEvent => ({
  id: `100-${n}`,
  seq: n,
  type: 'node.running',
  entity: 'node',
  executionId: EXE,
  at: n,
  ...more,
});
const ended = (n: number): BelayEvent =>
  event(n, { type: 'execution.completed', entity: 'execution', to: 'completed' });
const frame = (item: BelayEvent): string =>
  `id: ${item.id}\nevent: ${item.type}\ndata: ${JSON.stringify(item)}\n\n`;
const READY = 'event: ready\ndata: {}\n\n';

describe('a stream of events', () => {
  let server: Server;
  let transport: Transport;
  /** The server's acts at each connection, in order. */
  let script: ((response: ServerResponse) => void)[];
  let lastIds: (string | undefined)[];

  beforeEach(async () => {
    script = [];
    lastIds = [];
    server = createServer((request: IncomingMessage, response) => {
      lastIds.push(request.headers['last-event-id'] as string | undefined);
      const act = script.shift();
      if (act === undefined) throw new Error('one connection too many');
      act(response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    transport = { url, urls: [url], repeatForMs: 0, fetch: globalThis.fetch };
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const stream = (text: string, then: 'end' | 'cut' | 'hold') => (response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(text, () => {
      if (then === 'end') response.end();
      if (then === 'cut') response.destroy();
    });
  };
  const refuse = (status: number, code: string) => (response: ServerResponse) => {
    response.writeHead(status).end(JSON.stringify({ code, detail: `${code}.` }));
  };
  const follow = (options: Parameters<typeof followEvents>[2] = {}): AsyncGenerator<BelayEvent, void> =>
    followEvents(transport, PATH, options, () => 1);
  const ids = async (items: AsyncIterable<BelayEvent>): Promise<string[]> => {
    const all: string[] = [];
    for await (const item of items) all.push(item.id);
    return all;
  };

  it('yields each event and ends after the terminal one', async () => {
    script = [stream(READY + frame(event(1)) + ': keep-alive\n\n' + frame(ended(2)), 'end')];
    expect(await ids(follow())).toEqual(['100-1', '100-2']);
    expect(lastIds).toEqual([undefined]);
  });

  it('resumes a lost connection with Last-Event-ID and yields nothing twice', async () => {
    const lost: number[] = [];
    script = [
      stream(READY + frame(event(1)) + frame(event(2)), 'cut'),
      refuse(503, 'DRAINING'),
      stream(READY + frame(event(2)) + frame(event(10)), 'cut'),
      stream(READY + frame(ended(11)), 'end'),
    ];
    const seen = await ids(follow({ onReconnect: ({ delayMs }) => lost.push(delayMs) }));
    expect(seen).toEqual(['100-1', '100-2', '100-10', '100-11']);
    expect(lastIds).toEqual([undefined, '100-2', '100-2', '100-10']);
    expect(lost).toEqual([1, 1, 1]);
  });

  it('starts after the id it is given', async () => {
    script = [stream(READY + frame(ended(9)), 'end')];
    expect(await ids(follow({ lastEventId: '100-8' }))).toEqual(['100-9']);
    expect(lastIds).toEqual(['100-8']);
  });

  it('reports a reset and goes on', async () => {
    const resets: unknown[] = [];
    script = [stream('event: reset\ndata: {"oldest":"100-5"}\n\n' + frame(ended(6)), 'end')];
    expect(await ids(follow({ lastEventId: '1-1', onReset: (data) => resets.push(data) }))).toEqual([
      '100-6',
    ]);
    expect(resets).toEqual([{ oldest: '100-5' }]);
  });

  it('ends when the server says that there is no more', async () => {
    script = [stream(`${READY}event: end\ndata: {"state":"stopped"}\n\n`, 'end')];
    expect(await ids(follow({ lastEventId: '100-9' }))).toEqual([]);
  });

  it.each(['suspended', 'server_shutting_down'])(
    'R61 asks for the rest after a close with %s, although the execution has ended by then',
    async (close) => {
      script = [
        stream(`${READY}${frame(event(1))}event: ${close}\ndata: {}\n\n`, 'end'),
        stream(READY + frame(ended(2)), 'end'),
      ];
      expect(await ids(follow())).toEqual(['100-1', '100-2']);
      expect(lastIds).toEqual([undefined, '100-1']);
    },
  );

  it('goes past the terminal event of an earlier epoch', async () => {
    const again = event(3, { type: 'execution.running', entity: 'execution', to: 'running' });
    script = [stream(frame(ended(2)) + frame(again) + frame(ended(4)), 'end')];
    expect(await ids(follow())).toEqual(['100-2', '100-3', '100-4']);
  });

  it('ends by itself when the server leaves the stream open after the terminal event', async () => {
    script = [stream(frame(ended(2)), 'hold')];
    expect(await ids(follow())).toEqual(['100-2']);
  });

  it('does not retry the first connection, nor a refusal', async () => {
    script = [refuse(404, 'NOT_FOUND')];
    await expect(ids(follow())).rejects.toMatchObject({ code: 'NOT_FOUND' });
    script = [stream(READY + frame(event(1)), 'cut'), refuse(401, 'UNAUTHORIZED')];
    await expect(ids(follow())).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  it('gives up when an outage lasts', async () => {
    script = [
      stream(READY + frame(event(1)), 'cut'),
      ...Array.from({ length: 200 }, () => refuse(503, 'DRAINING')),
    ];
    await expect(ids(follow({ giveUpAfterMs: 30 }))).rejects.toMatchObject({ code: 'DRAINING' });
  });

  it('ends quietly when its signal aborts', async () => {
    const controller = new AbortController();
    script = [stream(READY + frame(event(1)), 'hold')];
    const seen: string[] = [];
    for await (const item of follow({ signal: controller.signal })) {
      seen.push(item.id);
      controller.abort();
    }
    expect(seen).toEqual(['100-1']);
  });

  it('closes its connection when the reader leaves', async () => {
    const closed = new Promise<void>((resolve) => {
      script = [
        (response) => {
          response.on('close', resolve);
          stream(READY + frame(event(1)), 'hold')(response);
        },
      ];
    });
    for await (const item of follow()) {
      expect(item.id).toBe('100-1');
      break;
    }
    await closed;
  });

  it('refuses an answer that is not an event stream', async () => {
    script = [(response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>')];
    await expect(ids(follow())).rejects.toMatchObject({ code: 'INTERNAL' } satisfies Partial<BelayError>);
  });

  it('knows a terminal event', () => {
    expect(isTerminalEvent(ended(1))).toBe(true);
    expect(isTerminalEvent(event(1, { to: 'completed' }))).toBe(false);
    expect(isTerminalEvent(event(1, { entity: 'execution', to: 'stopping' }))).toBe(false);
  });

  it('follows the lines of a log over a lost connection, each once', async () => {
    const log = (id: number): string =>
      `event: log\nid: ${id}\ndata: {"id":"${id}","at":1,"stream":"stdout","line":"line ${id}"}\n\n`;
    script = [stream(log(1) + log(2), 'cut'), stream(log(2) + log(3) + 'event: end\ndata: {}\n\n', 'hold')];
    const lines: string[] = [];
    for await (const line of createClient(transport).logs('agt_1', { follow: true })) lines.push(line.line);
    expect(lines).toEqual(['line 1', 'line 2', 'line 3']);
    expect(lastIds).toEqual([undefined, '2']);
  });

  it('waits for the end by events and answers the record', async () => {
    const record = (name: ExecutionRecord['state']) => (response: ServerResponse) => {
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ id: EXE, state: name }));
    };
    script = [record('running'), stream(READY + frame(ended(1)), 'end'), record('completed')];
    expect(await createClient(transport).waitForEnd(EXE)).toMatchObject({ state: 'completed' });
  });

  it('R57 of all executions goes on at its last position, past ends of executions, until it is told to stop', async () => {
    const placed = (item: BelayEvent, id: string): string =>
      `id: ${id}\nevent: event\ndata: ${JSON.stringify(item)}\n\n`;
    const other = event(1, { executionId: `${EXE.slice(0, -1)}W` });
    script = [
      stream(`id: all.0\n${READY}${placed(ended(1), 'all.1')}`, 'cut'),
      stream(`id: all.1\n${READY}${placed(other, 'all.2')}id: all.3\nevent: position\ndata: {}\n\n`, 'end'),
      stream(`id: all.3\n${READY}id: all.4\nevent: reset\ndata: {"reason":"retention"}\n\n`, 'end'),
      stream(`id: all.4\n${READY}${placed(event(2), 'all.5')}`, 'hold'),
    ];
    const ending = new AbortController();
    const told: unknown[] = [];
    const positions: string[] = [];
    const taken: BelayEvent[] = [];
    const options = {
      signal: ending.signal,
      onReset: (data: unknown) => told.push(data),
      onPosition: (id: string) => positions.push(id),
    };
    for await (const item of followAllEvents(transport, '/api/events', options, () => 1)) {
      // The position does not go beyond an event that is still being handled.
      expect(positions).not.toContain(`all.${[1, 2, 5][taken.length]}`);
      taken.push(item);
      if (taken.length === 3) ending.abort();
    }
    // The two executions have an event with the same id.
    expect(taken).toEqual([ended(1), other, event(2)]);
    expect(lastIds).toEqual([undefined, 'all.1', 'all.3', 'all.4']);
    expect(told).toEqual([{ reason: 'retention' }]);
    expect(positions).toEqual(expect.arrayContaining(['all.0', 'all.1', 'all.2', 'all.3', 'all.4']));
  });

  it('of all executions asks for what the caller wants', async () => {
    const asked: (string | undefined)[] = [];
    server.on('request', (request: IncomingMessage) => asked.push(request.url));
    script = [refuse(400, 'INVALID_REQUEST')];
    const client = createClient(transport);
    const query = { type: ['execution', 'node.failed'], state: ['failed'], selector: 'team=a,env!=b' };
    await expect(ids(client.allEvents(query))).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(asked).toEqual([
      '/api/events?type=execution%2Cnode.failed&state=failed&label=team%3Da%2Cenv%21%3Db',
    ]);
  });
});
