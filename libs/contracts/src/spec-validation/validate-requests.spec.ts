import { BelayError } from '../errors';
import {
  validateDrillRequest,
  validateKillRequest,
  requirePool,
  validateLatchRequest,
  validateLocalKill,
  validateNoteRequest,
  validateQueuePause,
  validateRemoveRequest,
  validatePauseRequest,
  validateRetryRequest,
  validateStopRequest,
} from './validate-requests';

const ULID = '01HZXW3V9K8Q2M4N6P7R5S0T1A';

function told(validate: (raw: unknown) => unknown, raw: unknown): string[] {
  try {
    validate(raw);
    return [];
  } catch (error) {
    if (!(error instanceof BelayError) || error.code !== 'INVALID_REQUEST') throw error;
    return error.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
  }
}

describe('a stop', () => {
  it.each([undefined, null, {}])('of %j is a stop without words', (raw) => {
    expect(validateStopRequest(raw)).toStrictEqual({});
  });

  it('keeps the fields that it has', () => {
    const raw = { reason: 'user_abort', note: 'wrong data', mode: 'immediate', graceMs: 0 };
    expect(validateStopRequest({ ...raw })).toStrictEqual(raw);
    expect(validateStopRequest({ note: 'x', mode: undefined })).toStrictEqual({ note: 'x' });
  });

  it.each<[unknown, string[]]>([
    ['now', [' TYPE must be an object with reason, note, mode and graceMs; it is "now".']],
    [
      { reason: 'bored', mode: 'hard', graceMs: 1.5, note: '' },
      [
        'reason ONE_OF must be user_abort, timeout, error, budget_exceeded, server_shutdown, killswitch or worker_lost; it is "bored".',
        'note LENGTH must be a text of 1 to 1024 characters without control characters; it is "".',
        'mode ONE_OF must be graceful or immediate; it is "hard".',
        'graceMs RANGE must be a whole number of milliseconds from 0 to 600000; it is 1.5.',
      ],
    ],
    [{ grace_ms: 5 }, ['grace_ms UNKNOWN_FIELD unknown field; did you mean graceMs?']],
    [JSON.parse('{"__proto__":{}}'), ['__proto__ UNSAFE_KEY is a key that is never accepted; rename it.']],
  ])('%j is refused', (raw, expected) => {
    expect(told(validateStopRequest, raw)).toEqual(expected);
  });
});

describe('a kill', () => {
  it.each([
    { type: 'all' },
    { type: 'worker', workerId: `wrk_${ULID}` },
    { type: 'execution', executionId: `exe_${ULID}` },
    { type: 'agent', agentId: `agt_${ULID}-0-1` },
    { type: 'pool', pool: 'gpu' },
    { type: 'selector', selector: 'team=data, env != prod' },
  ])('of %j is taken; a wide one brings a latch unless it is told not to', (scope) => {
    const latch = !['execution', 'agent'].includes(scope.type);
    expect(validateKillRequest({ scope, note: 'x' })).toStrictEqual({
      scope,
      note: 'x',
      kind: 'kill',
      latch,
    });
    expect(validateKillRequest({ scope: { type: 'all' }, releaseNeeds: 2 })).toMatchObject({
      latch: true,
      releaseNeeds: 2,
    });
    expect(validateLatchRequest({ scope, releaseNeeds: 1 })).toMatchObject({ releaseNeeds: 1 });
    expect(validateKillRequest({ scope, latch: false })).toStrictEqual({ scope, kind: 'kill', latch: false });
  });

  const ON_PURPOSE =
    'scope REQUIRED is missing; it must be one of all, pool, selector, worker, execution, agent, job. To kill everything write {"type":"all"}.';

  it.each<[unknown, string[]]>([
    [{}, [ON_PURPOSE]],
    [{ scope: {} }, [ON_PURPOSE]],
    [
      undefined,
      [
        ' REQUIRED is missing; it must be an object with scope, kind, latch, releaseNeeds, reason, note, mode and graceMs.',
      ],
    ],
    [
      { scope: 'all' },
      [
        'scope TYPE must be an object with a type: one of all, pool, selector, worker, execution, agent, job; it is "all".',
      ],
    ],
    [
      { scope: { type: 'galaxy' }, mod: 'x' },
      [
        'mod UNKNOWN_FIELD unknown field; did you mean mode?',
        'scope.type ONE_OF must be one of all, pool, selector, worker, execution, agent, job; it is "galaxy".',
      ],
    ],
    [
      { scope: { workerId: `wrk_${ULID}` } },
      ['scope.type ONE_OF must be one of all, pool, selector, worker, execution, agent, job; it is missing.'],
    ],
    [
      { scope: { type: 'toString' } },
      [
        'scope.type ONE_OF must be one of all, pool, selector, worker, execution, agent, job; it is "toString".',
      ],
    ],
    [
      { scope: { type: 'worker' } },
      ['scope.workerId REQUIRED is missing; it must be the id of the worker, wrk_ and what follows it.'],
    ],
    [
      { scope: { type: 'execution', executionId: 'exe_1' } },
      ['scope.executionId PATTERN must be the id of the execution, exe_ and what follows it; it is "exe_1".'],
    ],
    [
      { scope: { type: 'agent', agentId: 7 } },
      ['scope.agentId PATTERN must be the id of the agent, agt_ and what follows it; it is 7.'],
    ],
    [
      { scope: { type: 'all', workerId: `wrk_${ULID}` } },
      ['scope.workerId UNKNOWN_FIELD unknown field; a scope of type all has type alone.'],
    ],
    [
      { scope: { type: 'worker', workerId: `wrk_${ULID}`, executionId: `exe_${ULID}`, agentId: undefined } },
      ['scope.executionId UNKNOWN_FIELD unknown field; a scope of type worker has type and workerId.'],
    ],
    [
      { scope: { type: 'pool', pool: '@wrk' } },
      [
        'scope.pool PATTERN must be the name of a pool, 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is "@wrk".',
      ],
    ],
    [
      { scope: { type: 'selector', selector: ' ' } },
      ['scope.selector REQUIRED is empty, which would cover everything; for that use the scope all.'],
    ],
    [
      { scope: { type: 'selector', selector: 'a b,c=,d' } },
      [
        'scope.selector PATTERN has "a b", which is none of key=value, key!=value, key in (a,b), key notin (a,b), key or !key.',
        'scope.selector PATTERN has "c=", which is none of key=value, key!=value, key in (a,b), key notin (a,b), key or !key.',
      ],
    ],
    [
      { scope: { type: 'selector', selector: 7 } },
      [
        'scope.selector PATTERN must be conditions on labels such as team=data,env!=prod,model in (a,b); it is 7.',
      ],
    ],
    [
      { kind: 'thaw', scope: { type: 'all' } },
      [
        'kind ONE_OF must not be thaw for a scope of type all; use POST /api/latches/:id/release of the latch that froze it (GET /api/latches).',
      ],
    ],
    [
      { kind: 'thaw', scope: { type: 'execution', executionId: `exe_${ULID}` } },
      [
        `kind ONE_OF must not be thaw for a scope of type execution; use POST /api/executions/exe_${ULID}/resume.`,
      ],
    ],
    [
      { kind: 'freeze', scope: { type: 'execution', executionId: `exe_${ULID}` } },
      [
        `kind ONE_OF must not be freeze for one execution; use POST /api/executions/exe_${ULID}/pause with mode freeze.`,
      ],
    ],
    [
      { kind: 'freeze', latch: false, scope: { type: 'all' } },
      ['latch ONE_OF must not be false with kind freeze: new agents in the scope would run.'],
    ],
    [
      { releaseNeeds: 3, scope: { type: 'all' } },
      ['releaseNeeds RANGE must be a whole number of people from 1 to 2; it is 3.'],
    ],
    [
      { releaseNeeds: 2, kind: 'freeze', scope: { type: 'all' } },
      ['releaseNeeds ONE_OF must be left out, except for a kill that engages a latch.'],
    ],
    [
      { releaseNeeds: 2, latch: false, scope: { type: 'all' } },
      ['releaseNeeds ONE_OF must be left out, except for a kill that engages a latch.'],
    ],
    [
      { releaseNeeds: 2, scope: { type: 'job', queue: 'q', jobId: '1' } },
      ['releaseNeeds ONE_OF must be left out, except for a kill that engages a latch.'],
    ],
    [
      { releaseNeeds: 2, scope: { type: 'execution', executionId: `exe_${ULID}` } },
      ['releaseNeeds ONE_OF must be left out, except for a kill that engages a latch.'],
    ],
  ])('%j is refused', (raw, expected) => {
    expect(told(validateKillRequest, raw)).toEqual(expected);
  });

  it('says the first problem and how many more', () => {
    expect(() => validateKillRequest({ scope: {}, mode: 'x' })).toThrow(
      'The request is not valid: mode: must be graceful or immediate; it is "x". (and 1 more)',
    );
    expect(() => validateKillRequest(5)).toThrow(
      'The request is not valid: must be an object with scope, kind, latch, releaseNeeds, reason, note, mode and graceMs; it is 5.',
    );
  });
});

describe('the other bodies', () => {
  it('a drill names one worker or none; a kill on the local socket names its user', () => {
    expect(validateDrillRequest(undefined)).toEqual({});
    expect(validateDrillRequest({ workerId: `wrk_${ULID}` })).toEqual({ workerId: `wrk_${ULID}` });
    expect(validateDrillRequest({ hostile: true })).toEqual({ hostile: true });
    expect(told(validateDrillRequest, { hostile: 'yes' })).toHaveLength(1);
    expect(told(validateDrillRequest, { workerId: 'x' })).toEqual([
      'workerId PATTERN must be the id of a worker, wrk_ and what follows it; it is "x".',
    ]);
    const local = { scope: { type: 'all' }, mode: 'immediate', by: 'root' };
    expect(validateLocalKill(local)).toEqual(local);
    expect(told(validateLocalKill, { scope: { type: 'all' }, mode: 'immediate' })).toEqual([
      expect.stringContaining('by REQUIRED'),
    ]);
  });

  it('thaw and freeze are for one agent too', () => {
    const scope = { type: 'agent', agentId: `agt_${ULID}-0-1` };
    expect(validateKillRequest({ scope, kind: 'thaw' })).toMatchObject({ kind: 'thaw', latch: false });
    expect(validateKillRequest({ scope, kind: 'freeze' })).toMatchObject({ kind: 'freeze', latch: false });
  });

  it('R34 a pause of a queue needs nothing, a removal a reason, and a pool is a name', () => {
    expect(validateQueuePause(undefined)).toEqual({});
    expect(validateQueuePause({ note: 'x' })).toEqual({ note: 'x' });
    expect(validateRemoveRequest({ note: 'x' })).toEqual({ note: 'x' });
    expect(validateRemoveRequest({ note: 'x', selector: 'a=b' })).toEqual({ note: 'x', selector: 'a=b' });
    expect(told(validateRemoveRequest, undefined)).toEqual([expect.stringContaining('note REQUIRED')]);
    expect(told(validateRemoveRequest, { note: 'x', selector: 1 })).toEqual([
      expect.stringContaining('selector PATTERN'),
    ]);
    expect(told(validateRemoveRequest, { note: 'x', selector: 'a==' })).toEqual([
      expect.stringContaining('selector'),
    ]);
    expect(requirePool('gpu')).toBe('gpu');
    expect(() => requirePool('a b')).toThrow('must be the name of a pool');
  });

  it('a latch needs a scope, a release a reason, a pause nothing', () => {
    expect(validateLatchRequest({ scope: { type: 'all' }, note: 'x' })).toEqual({
      scope: { type: 'all' },
      note: 'x',
    });
    expect(told(validateLatchRequest, { note: 'x' })).toEqual([expect.stringContaining('scope REQUIRED')]);
    expect(validateNoteRequest({ note: 'fixed' })).toEqual({ note: 'fixed' });
    expect(told(validateNoteRequest, undefined)).toEqual([expect.stringContaining('note REQUIRED')]);
    expect(validateRetryRequest(undefined)).toEqual({});
    expect(validateRetryRequest({ force: true })).toEqual({ force: true });
    expect(validateRetryRequest({ maxCostUsd: 2.5 })).toEqual({ maxCostUsd: 2.5 });
    expect(told(validateRetryRequest, { force: 'yes', maxCostUsd: -1 })).toEqual([
      expect.stringContaining('force TYPE'),
      expect.stringContaining('maxCostUsd'),
    ]);
    expect(validatePauseRequest(undefined)).toEqual({});
    expect(validatePauseRequest({ mode: 'freeze', note: 'x' })).toEqual({ mode: 'freeze', note: 'x' });
    expect(told(validatePauseRequest, { mode: 'melt' })).toEqual([
      'mode ONE_OF must be drain or freeze; it is "melt".',
    ]);
  });
});
