import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SOCKET_KEY_VARIABLE, SOCKET_VARIABLE, type QuestionRecord } from '#libs/contracts';
import { EXIT } from '../exit-codes';
import { askPeople } from '../local/ask-people';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const ULID = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
const ID = `ask_${ULID}-0-1-1`;
const HASH = 'a'.repeat(64);
const AT = Date.UTC(2026, 10, 22, 12, 0, 0);
const OPEN: QuestionRecord = {
  id: ID,
  executionId: `exe_${ULID}`,
  nodeId: 'ship',
  agentId: `agt_${ULID}-0-1`,
  attempt: 1,
  epoch: 1,
  state: 'open',
  question: 'Deploy?\u001b[2J',
  choices: ['yes', 'no'],
  detail: { build: 5 },
  hash: HASH,
  createdAt: AT,
  deadlineAt: AT + 3_600_000,
};
const CLOSED: QuestionRecord = {
  ...OPEN,
  state: 'answered',
  answer: 'yes',
  by: 'api',
  why: 'person',
  reason: 'green',
  endedAt: AT + 5_000,
};

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ asked, routes, belay } = server));

describe('belay asks', () => {
  it('lists the questions of agents, and says how to answer', async () => {
    routes['GET /api/asks?limit=1000'] = [200, { items: [OPEN] }];
    expect(await belay(['asks'])).toMatchObject({
      code: 0,
      out:
        'ID                                    STATE  DEADLINE              NODE  QUESTION    CHOICES\n' +
        `${ID}  open   2026-11-22 13:00:00Z  ship  Deploy?[2J  yes, no\n`,
      err: `Answer with: belay answer ${ID} CHOICE, or denied\n`,
    });
    routes['GET /api/asks?limit=1000'] = [200, { items: [] }];
    expect((await belay(['asks'])).err).toBe('No open questions.\n');
    routes[`GET /api/asks?executionId=exe_${ULID}&limit=1000`] = [200, { items: [CLOSED], nextCursor: 'x' }];
    const closed = await belay(['asks', '--execution', `exe_${ULID}`]);
    expect(closed.out).toContain('answered yes');
    expect(closed.err).toBe('There are more: answer these first.\n');
  });

  it('shows one question whole', async () => {
    routes[`GET /api/asks/${ID}`] = [200, OPEN];
    expect((await belay(['asks', ID])).out).toBe(
      [
        `${ID}  open`,
        '  Deploy?[2J',
        '  choices   yes, no',
        `  asked by  ship (agt_${ULID}-0-1)`,
        '  deadline  2026-11-22 13:00:00Z',
        `  hash      ${HASH}`,
        '  {',
        '    "build": 5',
        '  }',
        '',
      ].join('\n'),
    );
    const changed = { ...OPEN, state: 'cancelled', by: 'belay', why: 'changed', next: `ask_${ULID}-0-1-2` };
    routes[`GET /api/asks/${ID}`] = [200, changed];
    expect((await belay(['asks', ID])).out).toContain(
      `  closed by belay (it was asked again in other words)\n  asked again as ask_${ULID}-0-1-2\n`,
    );
    expect(JSON.parse((await belay(['asks', ID, '--json'])).out)).toEqual(changed);
    expect(await belay(['asks', `exe_${ULID}`])).toMatchObject({ code: EXIT.usage });
  });
});

describe('belay answer', () => {
  it('answers for the words that it was shown, or for those that were seen before', async () => {
    routes[`GET /api/asks/${ID}`] = [200, OPEN];
    routes[`POST /api/asks/${ID}`] = [200, CLOSED];
    const given = await belay(['answer', ID, 'yes', '--reason', 'green']);
    expect(given).toMatchObject({ code: 0, err: '' });
    expect(given.out).toContain(`${ID}  answered yes\n`);
    expect(given.out).toContain('  closed by api (a person)\n  reason    green\n');
    expect(asked.at(-1)).toBe(
      `POST /api/asks/${ID} ${JSON.stringify({ choice: 'yes', hash: HASH, reason: 'green' })}`,
    );
    const seen = 'b'.repeat(64);
    await belay(['answer', ID, 'denied', '--hash', seen, '--json']);
    expect(asked.at(-1)).toBe(`POST /api/asks/${ID} ${JSON.stringify({ choice: 'denied', hash: seen })}`);
  });

  it('says why it was refused', async () => {
    const problem = { status: 409, code: 'QUESTION_CHANGED', detail: 'It is not the one that was seen.' };
    routes[`GET /api/asks/${ID}`] = [200, OPEN];
    routes[`POST /api/asks/${ID}`] = [409, problem];
    expect(await belay(['answer', ID, 'yes'])).toMatchObject({
      code: EXIT.failed,
      err: 'belay: It is not the one that was seen.\n',
    });
  });
});

describe('belay ask', () => {
  let worker: Server;
  let folder: string;
  let lines: object[];
  let answers: object[];
  const name = `belay-test-${process.pid}-asks`;
  const env = { [SOCKET_VARIABLE]: name, [SOCKET_KEY_VARIABLE]: 'k' };
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'belay-ask-'));
    worker = createServer((socket) => {
      socket.on('error', () => undefined);
      createInterface({ input: socket }).on('line', (line) => {
        lines.push(JSON.parse(line) as object);
        const answer = answers.shift();
        if (answer === undefined) socket.destroy();
        else socket.write(`${JSON.stringify(answer)}\n`);
      });
    });
    await new Promise<void>((resolve) => worker.listen(`\0${name}`, resolve));
  });
  afterAll(() => {
    worker.close();
    rmSync(folder, { recursive: true });
  });
  beforeEach(() => {
    lines = [];
    answers = [{ n: 1 }, { n: 1, question: OPEN }, { n: 1, question: CLOSED }];
  });

  it('asks over the worker’s socket, and prints the choice', async () => {
    const detail = join(folder, 'detail.json');
    writeFileSync(detail, '{"build":5}');
    const args = [
      'ask',
      'Deploy?',
      '--choice',
      'yes',
      '--choice',
      'no',
      '--timeout',
      '1h',
      '--detail',
      detail,
    ];
    expect(await belay([...args, '--key', 'ship', '--freeze'], { env })).toMatchObject({
      code: 0,
      out: 'yes\n',
      err: `asked ${ID}, denied at 2026-11-22 13:00:00Z\n`,
    });
    const ask = {
      question: 'Deploy?',
      choices: ['yes', 'no'],
      timeoutMs: 3_600_000,
      detail: { build: 5 },
      key: 'ship',
      whileWaiting: 'freeze',
    };
    expect(lines).toEqual([
      { n: 1, key: 'k', act: 'hello' },
      { n: 1, key: 'k', act: 'ask', ask },
      { n: 1, key: 'k', act: 'await', id: ID },
    ]);
  });

  it('waits again for a question by its id; denied is exit code 9', async () => {
    answers = [{ n: 1 }, { n: 1, question: { ...CLOSED, state: 'denied', answer: 'denied' } }];
    expect(await belay(['ask', '--resume', ID], { env })).toMatchObject({
      code: EXIT.denied,
      out: 'denied\n',
    });
    answers = [{ n: 1 }, { n: 1, question: CLOSED }];
    expect(JSON.parse((await belay(['ask', '--resume', ID, '--json'], { env })).out)).toEqual(CLOSED);
  });

  it('reports every fault of a question before it asks anybody', async () => {
    for (const [args, err] of [
      [['ask'], 'Give a question, or --resume ID'],
      [['ask', 'x', '--resume', ID], 'Give a question, or --resume ID'],
      [['ask', 'x', '--detail', join(folder, 'none')], 'cannot be read as JSON'],
      [['ask', 'x', '--timeout', '5'], 'is not a duration'],
    ] as const)
      expect(await belay(args, { env })).toMatchObject({
        code: EXIT.usage,
        out: '',
        err: expect.stringContaining(err),
      });
    expect(await belay(['ask', '', '--choice', 'denied'], { env })).toMatchObject({
      code: EXIT.failed,
      err: expect.stringMatching(/question[^]*choices\[0\]/),
    });
    expect(await belay(['ask', 'x'])).toMatchObject({
      code: EXIT.usage,
      err: expect.stringContaining('works only inside an agent'),
    });
    expect(lines).toEqual([]);
  });

  it('takes a refusal, and a worker that goes away, for no answer', async () => {
    answers = [{ n: 1 }, { n: 1, error: { code: 'TOO_MANY_QUESTIONS', message: 'Enough.' } }];
    expect(await belay(['ask', 'x'], { env })).toMatchObject({
      code: EXIT.failed,
      out: '',
      err: 'belay: Enough.\n',
    });
    answers = [{ n: 1 }, { n: 1, error: { code: 'ASK_NOT_STORED', message: 'Not stored.' } }];
    expect(await belay(['ask', 'x'], { env })).toMatchObject({ code: EXIT.unconfirmed, out: '' });
    for (const before of [[], [{ n: 1 }], [{ n: 1 }, { n: 1, question: OPEN }]]) {
      answers = before;
      expect(await belay(['ask', 'x'], { env })).toMatchObject({ code: EXIT.unconfirmed, out: '' });
    }
    const gone = { [SOCKET_VARIABLE]: 'belay-nobody', [SOCKET_KEY_VARIABLE]: 'k' };
    expect((await belay(['ask', 'x'], { env: gone })).out).toBe('');
  });

  it('answers the questions of a coding agent over MCP', async () => {
    answers = [{ n: 1 }, { n: 1, question: OPEN }, { n: 1, question: { ...CLOSED, answer: 'allow' } }];
    const params = { name: 'approve', arguments: { tool_name: 'Bash', input: { command: 'ls' } } };
    const input = [
      JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params: {} }),
      JSON.stringify({ jsonrpc: '2.0', id: 2, method: 'tools/call', params }),
    ];
    const { code, out, err } = await belay(['mcp', '--timeout', '2h'], { env, input });
    expect([code, err]).toEqual([0, '']);
    const sent = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: number; result: object });
    expect(sent.map(({ id }) => id)).toEqual([1, 2]);
    expect(sent[1]?.result).toEqual({
      content: [
        { type: 'text', text: JSON.stringify({ behavior: 'allow', updatedInput: { command: 'ls' } }) },
      ],
    });
    expect(lines[1]).toMatchObject({ act: 'ask', ask: { timeoutMs: 7_200_000 } });
  });

  it('ends its wait with its signal', async () => {
    const ended = new AbortController();
    answers = [{ n: 1 }, { n: 1, question: OPEN }];
    const onStored = (): void => ended.abort(new Error('enough'));
    await expect(
      askPeople({ ask: { question: 'x' } }, { env, signal: ended.signal, onStored }),
    ).rejects.toThrow('enough');
  });
});
