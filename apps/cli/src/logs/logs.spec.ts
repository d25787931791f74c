import { EXIT } from '../exit-codes';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const U = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
const EXE = `exe_${U}`;

let routes: Routes;
let asked: string[];
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ routes, asked, belay } = server));

const line = (n: number, text: string, more: object = {}) => ({
  id: String(n),
  at: n,
  n,
  stream: 'stdout',
  line: text,
  ...more,
});
const logs = (lines: readonly object[], skipped = { lines: 0, bytes: 0 }) => ({
  lines,
  total: { lines: lines.length, bytes: 1 },
  skipped,
  ended: true,
});
const agentOf = (index: number): string => `agt_${U}-${index}-1`;
function nodes(names: Readonly<Record<string, readonly object[] | undefined>>): void {
  const items = Object.keys(names).map((id, index) => ({
    id,
    index,
    state: 'completed',
    attempt: 1,
    ...(names[id] === undefined ? {} : { agentId: agentOf(index) }),
  }));
  routes[`GET /api/executions/${EXE}/nodes?limit=200`] = [200, { items }];
  for (const [index, { id }] of items.entries())
    if (names[id] !== undefined) routes[`GET /api/agents/${agentOf(index)}/logs`] = [200, logs(names[id])];
}

describe('R14 belay logs of an execution', () => {
  it('prints node after node, each line whole and behind the name of its node', async () => {
    nodes({
      fetch: [
        line(1, 'one'),
        line(2, 'tw', { partial: true }),
        line(3, 'err', { stream: 'stderr' }),
        line(4, 'o'),
      ],
      'a-node-with-a-rather-long-name': [line(1, 'no newline', { partial: true })],
      waiting: undefined,
    });
    expect(await belay(['logs', EXE])).toMatchObject({
      code: EXIT.ok,
      out:
        'fetch                    | one\n' +
        'fetch                    | err\n' +
        'fetch                    | two\n' +
        'a-node-with-a-rather-lo… | no newline\n',
      err: '',
    });
    const json = (await belay(['logs', EXE, '--json'])).out.trim().split('\n');
    expect(json.map((text) => JSON.parse(text) as object)[4]).toMatchObject({
      nodeId: 'a-node-with-a-rather-long-name',
      agentId: agentOf(1),
      line: 'no newline',
    });
  });

  it('keeps the bytes of a file or pipe, and removes control sequences on a terminal', async () => {
    const bytes = Buffer.from([0x66, 0xff, 0x1b, 0x5b, 0x32, 0x4a]);
    nodes({ n: [line(1, 'f\ufffd\u001b[2J', { base64: bytes.toString('base64') })] });
    const { cli } = await belay(['logs', EXE]);
    expect(cli.bytes().equals(Buffer.concat([Buffer.from('n | '), bytes, Buffer.from('\n')]))).toBe(true);
    expect((await belay(['logs', EXE, '--no-color'], { isTTY: true })).out).toBe('n | f\ufffd[2J\n');
  });

  it('says what is left out, what retention has removed, and that nothing has begun', async () => {
    nodes({ cut: [line(1, 'a')], gone: [], fine: [line(1, 'b')] });
    routes[`GET /api/agents/${agentOf(0)}/logs`] = [
      200,
      logs([line(1, 'a'), line(9, 'z', { skipped: { lines: 7, bytes: 70 } })], { lines: 7, bytes: 70 }),
    ];
    routes[`GET /api/agents/${agentOf(1)}/logs`] = [404, { code: 'NOT_FOUND', detail: 'No agent.' }];
    expect(await belay(['logs', EXE])).toMatchObject({
      code: EXIT.ok,
      out: 'cut  | a\ncut  | z\nfine | b\n',
      err:
        'cut  | … 7 lines (70 bytes) left out here\n' +
        `Parts of the output of cut are left out. More: belay logs ${agentOf(0)}\n` +
        'The output of gone is not kept any more.\n',
    });
    nodes({ waiting: undefined });
    expect(await belay(['logs', EXE])).toMatchObject({
      code: EXIT.ok,
      out: '',
      err: `No node of ${EXE} has an agent yet.\n`,
    });
  });

  it('fails by another error of one node, without a line of the nodes behind it', async () => {
    nodes({ a: [line(1, 'a')], b: [], c: [line(1, 'c')] });
    routes[`GET /api/agents/${agentOf(1)}/logs`] = [403, { code: 'FORBIDDEN', detail: 'Not yours.' }];
    const { code, out } = await belay(['logs', EXE]);
    expect(code).not.toBe(EXIT.ok);
    expect(out).toBe('a | a\n');
  });
});

describe('R14 belay logs --tail', () => {
  it('prints the last lines of one agent, or of each', async () => {
    const three = [
      line(1, 'one'),
      line(2, 'tw', { partial: true }),
      line(3, 'o'),
      line(4, 'end', { partial: true }),
    ];
    nodes({ a: three, b: [line(1, 'only')] });
    routes[`GET /api/executions/${EXE}/nodes/a`] = [
      200,
      { id: 'a', index: 0, attempt: 1, agentId: agentOf(0) },
    ];
    expect((await belay(['logs', EXE, '--tail', '2'])).out).toBe('a | two\na | end\nb | only\n');
    expect((await belay(['logs', `${EXE}/a`, '-n', '2'])).out).toBe('two\nend');
    expect((await belay(['logs', agentOf(0), '-n', '0'])).out).toBe('');
    expect((await belay(['logs', agentOf(0), '-n', '99'])).out).toBe('one\ntwo\nend');
  });

  it('goes on from the last line that was written before', async () => {
    routes[`GET /api/agents/${agentOf(0)}/logs`] = [200, logs([line(7, 'old'), line(8, 'last')])];
    routes[`GET /api/agents/${agentOf(0)}/logs?follow=1`] = (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(`id: 9\nevent: log\ndata: ${JSON.stringify(line(9, 'new'))}\n\nevent: end\ndata: {}\n\n`);
    };
    expect(await belay(['logs', agentOf(0), '-f', '--tail', '1'])).toMatchObject({
      code: EXIT.ok,
      out: 'last\nnew\n',
    });
  });

  it.each([
    [['logs', EXE, '-f', '--tail', '3'], '--follow and --tail together are for one agent'],
    [['logs', EXE, '--tail', 'x'], 'is not a whole number'],
    [['logs', 'exe_nothing'], 'is not the id of an execution'],
  ])('%j is refused', async (args, text) => {
    const { code, err } = await belay(args);
    expect(code).toBe(EXIT.usage);
    expect(err).toContain(text);
    expect(asked).toEqual([]);
  });
});
