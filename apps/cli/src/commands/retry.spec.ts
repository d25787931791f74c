import type { ExecutionRecord } from '#libs/contracts';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const idOf = (n: number): string => `exe_01ARZ3NDEKTSV4RRFFQ69G5FA${'0123456789ABCDEF'[n]}`;
const failed = (n: number): Partial<ExecutionRecord> => ({
  id: idOf(n),
  state: 'failed',
  name: `run\u001b[2J${n}`,
});
const LIST = 'GET /api/executions?state=failed&limit=200&label=team%3Ddata';

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ asked, routes, belay } = server));

const refusal = (code: string, message: string) => ({ code, detail: message, title: code, status: 409 });

describe('R40 belay retry of many', () => {
  beforeEach(() => {
    // Newest first, as the server lists them.
    routes[LIST] = [200, { items: [failed(2), failed(1), failed(0)] }];
    for (const n of [0, 1, 2])
      routes[`POST /api/executions/${idOf(n)}/retry`] = [200, { ...failed(n), state: 'running' }];
  });

  it('goes on with each that failed and has the label, oldest first', async () => {
    expect(await belay(['retry', '--label', 'team=data'])).toMatchObject({
      code: 0,
      out: `${idOf(0)}  retried\n${idOf(1)}  retried\n${idOf(2)}  retried\n3 executions retried\n`,
      err: '',
    });
    expect(asked).toEqual([LIST, ...[0, 1, 2].map((n) => `POST /api/executions/${idOf(n)}/retry {}`)]);
  });

  it('tells of one that is refused, goes on with the others, and ends with 1', async () => {
    routes[`POST /api/executions/${idOf(1)}/retry`] = [
      409,
      refusal('NOT_PROVED', 'An attempt may still run.'),
    ];
    const { code, out } = await belay(['retry', '--label', 'team=data', '--force']);
    expect({ code, out }).toEqual({
      code: 1,
      out:
        `${idOf(0)}  retried\n${idOf(1)}  NOT_PROVED  An attempt may still run.\n${idOf(2)}  retried\n` +
        '2 executions retried, 1 refused\n',
    });
    expect(asked.at(-1)).toBe(`POST /api/executions/${idOf(2)}/retry {"force":true}`);
    expect(JSON.parse((await belay(['retry', '--label', 'team=data', '--json'])).out)).toEqual({
      retried: [idOf(0), idOf(2)],
      refused: [
        { executionId: idOf(1), code: 'NOT_PROVED', message: expect.stringContaining('may still run') },
      ],
    });
  });

  it('asks for no more once every other one would meet the same, and says how many are left', async () => {
    routes[`POST /api/executions/${idOf(1)}/retry`] = [
      503,
      { ...refusal('DRAINING', 'It drains.'), status: 503 },
    ];
    const { code, out, err } = await belay(['retry', '--label', 'team=data']);
    expect({ code, out }).toEqual({
      code: 5,
      out: `${idOf(0)}  retried\n1 execution retried, 2 not asked for\n`,
    });
    expect(err).toContain('It drains.');
    expect(asked.filter((line) => line.startsWith('POST')).some((line) => line.includes(idOf(2)))).toBe(
      false,
    );
  });

  it('lists them and does nothing where asked', async () => {
    expect(await belay(['retry', '--label', 'team=data', '--dry-run'])).toMatchObject({
      code: 0,
      out:
        [0, 1, 2].map((n) => `${idOf(n)}  failed  run[2J${n}\n`).join('') +
        '3 executions would be retried; none was\n',
    });
    expect(asked).toEqual([LIST]);
    routes['GET /api/executions?state=stopped%2Cfailed&limit=200'] = [200, { items: [] }];
    const { out } = await belay(['retry', '--all', '--state', 'stopped,failed', '--dry-run', '--json']);
    expect(JSON.parse(out)).toEqual({ retried: [], would: [], refused: [] });
  });

  it.each<[string, string[], string]>([
    ['nothing to retry', [], 'retry needs an execution, --label k=v, or --all'],
    ['one and many', [idOf(0), '--all'], 'leave the execution out'],
    ['one and a dry run', [idOf(0), '--dry-run'], 'leave the execution out'],
    ['a label and all', ['--label', 'a=b', '--all'], 'Give --label or --all, not both.'],
    ['many with one budget', ['--all', '--max-cost', '3'], 'name it'],
    ['many to be followed', ['--all', '--watch'], 'name it'],
    ['a state that nothing leaves', ['--all', '--state', 'completed'], 'is not one of stopped, failed'],
  ])('refuses %s, and asks nothing', async (_what, args, said) => {
    const { code, err } = await belay(['retry', ...args]);
    expect(code).toBe(2);
    expect(err).toContain(said);
    expect(asked).toEqual([]);
  });
});
