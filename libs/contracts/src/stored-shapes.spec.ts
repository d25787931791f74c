import { executionProblem, jsonProblem, proofProblem } from './stored-shapes';

const NODE = { s: 'ready', i: 0, a: 1, p: 'default' };
const AGENT = {
  id: 'agt_X-0-1',
  executionId: 'exe_X',
  nodeId: 'a',
  owner: 'wrk_X',
  state: 'running',
  version: 1,
  epoch: 1,
  attempt: 1,
  createdAt: 1,
};
const EXECUTION = Object.fromEntries([
  ['id', 'exe_X'],
  ['state', 'running'],
  ...['version', 'epoch', 'createdAt', 'live', 'n:total'].map((name) => [name, '1']),
  ...['pending', 'ready', 'running', 'suspended', 'completed', 'failed', 'skipped', 'cancelled'].map(
    (state) => [`n:${state}`, '0'],
  ),
]) as Record<string, string>;

describe('R31 the shapes of stored records', () => {
  it('accepts sound records', () => {
    expect(executionProblem(EXECUTION)).toBeUndefined();
    expect(jsonProblem('node', NODE)).toBeUndefined();
    expect(jsonProblem('agent', AGENT)).toBeUndefined();
  });

  it('names the field and its fault', () => {
    expect(executionProblem({ ...EXECUTION, state: 'flying' })).toEqual({
      field: 'state',
      problem: expect.stringMatching(/^state is not one of (?=.*\bidle\b)(?=.*\bcompleted\b)/) as string,
    });
    const { version: _, ...without } = EXECUTION;
    expect(executionProblem(without)).toEqual({ field: 'version', problem: 'version is missing' });
    for (const version of ['', 'many', 'Infinity'])
      expect(executionProblem({ ...EXECUTION, version })).toEqual({
        field: 'version',
        problem: 'version is not a number',
      });
    expect(jsonProblem('agent', { ...AGENT, owner: '' })).toEqual({
      field: 'owner',
      problem: 'owner is not a text',
    });
    // In JSON a number is not a text.
    expect(jsonProblem('node', { ...NODE, a: '1' })).toEqual({ field: 'a', problem: 'a is not a number' });
  });

  it('takes nothing but an object for JSON of a record', () => {
    for (const value of [null, [], 'text', 7])
      expect(jsonProblem('node', value)).toEqual({ field: '', problem: 'it is JSON, but not an object' });
  });

  it('takes a proof for a proof only when it is whole', () => {
    const report = { proved: true, processes: [], signals: [], evidence: [], survivors: [] };
    const whole = { pid: 1, startTime: '1' };
    expect(proofProblem({ report })).toBeUndefined();
    expect(proofProblem({ report, leaders: [] })).toBeUndefined();
    expect(proofProblem({ report, leaders: [whole] })).toBeUndefined();
    for (const nothing of [undefined, null, {}, { report: null }, { report: 'dead' }])
      expect(proofProblem(nothing)).toEqual({ field: 'report', problem: 'report is not an object' });
    for (const proved of [undefined, false, 'true'])
      expect(proofProblem({ report: { ...report, proved } })).toMatchObject({ field: 'proved' });
    for (const field of ['processes', 'signals', 'evidence', 'survivors'])
      expect(proofProblem({ report: { ...report, [field]: {} } })).toMatchObject({ field });
    for (const leaders of [null, {}, [null], [7], [{ ...whole, pid: '1' }], [whole, { pid: 1 }]])
      expect(proofProblem({ report, leaders })).toMatchObject({ field: 'leaders' });
  });
});
