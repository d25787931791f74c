import { isBelayError } from '../errors';
import { requestSchemas } from './request-schemas';
import { validateKillRequest, validateLatchRequest } from './validate-requests';

const EXECUTION = 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const { Scope, KillRequest, LatchRequest, StopByIdRequest } = requestSchemas();

/** Whether the check of a latch takes a scope. */
function isTaken(scope: unknown): boolean {
  try {
    validateLatchRequest({ scope });
    return true;
  } catch (error) {
    if (!isBelayError(error)) throw error;
    return false;
  }
}

describe('the schemas of bodies, for the OpenAPI document', () => {
  it.each([
    [{ type: 'all' }, true],
    [{ type: 'all', pool: 'gpu' }, false],
    [{ type: 'pool', pool: 'gpu' }, true],
    [{ type: 'pool', pool: 'g p u' }, false],
    [{ type: 'pool' }, false],
    [{ type: 'selector', selector: 'team=data' }, true],
    [{ type: 'selector', selector: 7 }, false],
    [{ type: 'worker', workerId: 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ' }, true],
    [{ type: 'worker', workerId: EXECUTION }, false],
    [{ type: 'execution', executionId: EXECUTION }, true],
    [{ type: 'execution', workerId: EXECUTION }, false],
    [{ type: 'agent', agentId: 'agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-0-1' }, true],
    [{ type: 'agent', agentId: 'agt_01HZZZZZZZZZZZZZZZZZZZZZZZ' }, false],
    [{ type: 'job', queue: 'reports', jobId: '42' }, true],
    [{ type: 'job', queue: 'reports' }, false],
    [{ type: 'job', queue: 'reports', jobId: '42', pool: 'gpu' }, false],
    [{ type: 'galaxy' }, false],
    [{}, false],
    ['all', false],
  ])('take the same scopes as their checks: %j %s', (scope, is) => {
    expect([Scope.safeParse(scope).success, isTaken(scope)]).toEqual([is, is]);
  });

  it('write out the scope of an order and of a latch, and the id of a stop', () => {
    const scope = { type: 'pool', pool: 'gpu' };
    for (const body of [
      { scope, note: 'x' },
      { scope, kind: 'freeze', latch: true },
    ])
      expect([KillRequest.safeParse(body).success, validateKillRequest(body).scope]).toEqual([true, scope]);
    expect(LatchRequest.safeParse({ scope: 'gpu' }).success).toBe(false);
    expect(StopByIdRequest.safeParse({ executionId: EXECUTION, mode: 'immediate' }).success).toBe(true);
    expect(StopByIdRequest.safeParse({ mode: 'immediate' }).success).toBe(false);
  });
});
