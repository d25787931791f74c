import { BelayError, type QuestionRecord } from '#libs/contracts';
import type { Asked } from './ask-people';
import { PermissionServer } from './permission-server';

const ID = 'ask_01ARZ3NDEKTSV4RRFFQ69G5FAV-0-1-1';
const stored = { id: ID, state: 'open' } as QuestionRecord;
const INPUT = { command: 'rm -r build' };

let sent: Record<string, unknown>[];
let asked: Asked[];
let answer: (signal: AbortSignal) => Promise<Partial<QuestionRecord>>;
let server: PermissionServer;
beforeEach(() => {
  sent = [];
  asked = [];
  answer = async () => ({ answer: 'allow' });
  server = new PermissionServer({
    ask: async (request, signal, onStored) => {
      asked.push(request);
      if ('ask' in request) onStored(stored);
      return { ...stored, ...(await answer(signal)) };
    },
    send: (message) => sent.push(message as Record<string, unknown>),
    version: '1',
    timeoutMs: 60_000,
    pollMs: 50,
  });
});

const call = (params: object): string =>
  JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/call', params });
const approve = call({ name: 'approve', arguments: { tool_name: 'Bash', input: INPUT, tool_use_id: 't' } });
/** The tool's last answer. */
function said(): unknown {
  const { content = [] } = (sent.at(-1)?.['result'] ?? {}) as { content?: { type: string; text: string }[] };
  expect(content).toHaveLength(1);
  return JSON.parse(content[0]?.text ?? '');
}
/** Waits until the caller gives up. */
const nobody = async (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));

describe('the MCP server for permissions', () => {
  it('speaks the protocol', async () => {
    await server.take(
      '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05"}}',
    );
    await server.take('{"jsonrpc":"2.0","method":"notifications/initialized"}');
    await server.take('{"jsonrpc":"2.0","id":"a","method":"ping"}');
    await server.take('{"jsonrpc":"2.0","id":2,"method":"tools/list"}');
    await server.take('{"jsonrpc":"2.0","id":3,"method":"resources/list"}');
    await server.take('{');
    await server.take('null');
    await server.take('{"jsonrpc":"2.0","id":4,"method":"initialize"}');
    expect(sent).toMatchObject([
      {
        id: 1,
        result: { protocolVersion: '2024-11-05', capabilities: { tools: {} }, serverInfo: { name: 'belay' } },
      },
      { id: 'a', result: {} },
      { id: 2, result: { tools: [{ name: 'approve', inputSchema: { required: ['tool_name', 'input'] } }] } },
      { id: 3, error: { code: -32_601 } },
      { id: null, error: { code: -32_700 } },
      { id: 4, result: { protocolVersion: '2025-06-18' } },
    ]);
  });

  it('asks a person, with the tool and its input, and allows the use after a yes', async () => {
    await server.take(approve);
    expect(said()).toEqual({ behavior: 'allow', updatedInput: INPUT });
    expect(asked).toEqual([
      {
        ask: {
          question: 'May it use the tool Bash?',
          choices: ['allow'],
          detail: { tool_name: 'Bash', input: INPUT },
          timeoutMs: 60_000,
        },
      },
    ]);
    // An answer is valid for one use of the tool.
    await server.take(approve);
    expect(asked).toHaveLength(2);
    expect(asked[1]).toHaveProperty('ask');
  });

  it('denies the use after a no, with the reason', async () => {
    answer = async () => ({ answer: 'denied', reason: 'not on a Friday' });
    await server.take(approve);
    expect(said()).toEqual({ behavior: 'deny', message: 'not on a Friday' });
    answer = async () => ({});
    await server.take(approve);
    expect(said()).toMatchObject({
      behavior: 'deny',
      message: expect.stringContaining('nobody answered in time'),
    });
  });

  it('denies for now a use that has no answer yet; the same call again waits for the same question', async () => {
    answer = nobody;
    await server.take(approve);
    const message = `Nobody has answered ${ID} yet. Call the same tool again with the same input to go on waiting.`;
    expect(said()).toEqual({ behavior: 'deny', message });
    await server.take(approve);
    expect(said()).toEqual({ behavior: 'deny', message });
    answer = async () => ({ answer: 'allow' });
    await server.take(approve);
    expect(said()).toEqual({ behavior: 'allow', updatedInput: INPUT });
    expect(asked.slice(1)).toEqual([{ id: ID }, { id: ID }]);
  });

  it.each<[string, object, string]>([
    [
      'another tool',
      { name: 'write', arguments: { tool_name: 'Bash', input: {} } },
      'must be of the tool approve',
    ],
    ['no arguments', { name: 'approve' }, 'must be of the tool approve'],
    ['no name of a tool', { name: 'approve', arguments: { input: {} } }, 'must be of the tool approve'],
    [
      'an input too large to be read',
      { name: 'approve', arguments: { tool_name: 'Write', input: { text: 'x'.repeat(20_000) } } },
      'must be shorter',
    ],
  ])('denies %s without a question', async (_title, params, message) => {
    await server.take(call(params));
    expect(said()).toEqual({ behavior: 'deny', message: expect.stringContaining(message) });
    expect(asked).toEqual([]);
  });

  it('denies whatever cannot be asked', async () => {
    answer = async () =>
      Promise.reject(new BelayError('OUTCOME_UNKNOWN', 'The worker closed the connection.'));
    await server.take(approve);
    expect(said()).toEqual({ behavior: 'deny', message: 'The worker closed the connection.' });
    answer = async () => Promise.reject(new Error('ECONNREFUSED'));
    await server.take(approve);
    expect(said()).toEqual({ behavior: 'deny', message: 'Nobody could be asked.' });
  });

  it('has at most 100 calls that wait', async () => {
    answer = nobody;
    const each = (n: number): string =>
      call({ name: 'approve', arguments: { tool_name: 'Bash', input: { n } } });
    await Promise.all(Array.from({ length: 100 }, async (_, n) => server.take(each(n))));
    await server.take(each(100));
    expect(said()).toMatchObject({
      message: 'Too many tools wait for an answer. Call this one again later.',
    });
  });
});
