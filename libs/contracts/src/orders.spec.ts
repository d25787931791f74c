import { scopeCovers, scopeKey, type Scope } from './orders';

const AGENT = { agentId: 'agt_1', executionId: 'exe_1', workerId: 'wrk_1' };

describe('the scope of an order', () => {
  it.each<[Scope, string, boolean]>([
    [{ type: 'all' }, 'all', true],
    [{ type: 'worker', workerId: 'wrk_1' }, 'worker/wrk_1', true],
    [{ type: 'worker', workerId: 'wrk_2' }, 'worker/wrk_2', false],
    [{ type: 'execution', executionId: 'exe_1' }, 'execution/exe_1', true],
    [{ type: 'execution', executionId: 'exe_2' }, 'execution/exe_2', false],
    [{ type: 'agent', agentId: 'agt_1' }, 'agent/agt_1', true],
    [{ type: 'agent', agentId: 'agt_2' }, 'agent/agt_2', false],
  ])('%j has the key %s; it is for the agent: %s', (scope, key, covers) => {
    expect(scopeKey(scope)).toBe(key);
    expect(scopeCovers(scope, AGENT)).toBe(covers);
  });
});
