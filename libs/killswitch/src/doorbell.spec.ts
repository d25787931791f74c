import type { Order } from '#libs/contracts';
import { readDoorbell } from './doorbell';

const order: Order = {
  id: 'ord_01HZZZZZZZZZZZZZZZZZZZZZZZ',
  seq: '1-0',
  kind: 'kill',
  scope: { type: 'all' },
  mode: 'graceful',
  reason: 'killswitch',
  by: 'cli',
  placedAt: 1,
};
const said = (value: unknown) => readDoorbell(JSON.stringify(value));

describe('the doorbell', () => {
  it.each([
    { type: 'all' },
    { type: 'pool', pool: 'gpu' },
    { type: 'selector', selector: 'team=data' },
    { type: 'worker', workerId: 'wrk_1' },
    { type: 'execution', executionId: 'exe_1' },
    { type: 'agent', agentId: 'agt_1-0-1' },
  ])('carries an order of scope %j as it was placed, with and without targets', (scope) => {
    const placed = { ...order, scope };
    expect(said({ order: placed })).toEqual({ order: placed });
    expect(said({ order: placed, targets: ['agt_1-0-1'] })).toEqual({
      order: placed,
      targets: ['agt_1-0-1'],
    });
  });

  it('carries a question', () => {
    expect(said({ ask: 'nonce' })).toEqual({ ask: 'nonce' });
  });

  it.each([
    '',
    '{',
    'null',
    '[]',
    '7',
    '{"order":null}',
    '{"ask":7}',
    JSON.stringify({ order: { ...order, seq: undefined } }),
    JSON.stringify({ order: { ...order, kind: 'drown' } }),
    JSON.stringify({ order: { ...order, mode: 'gently' } }),
    JSON.stringify({ order: { ...order, placedAt: '1' } }),
    JSON.stringify({ order: { ...order, scope: null } }),
    JSON.stringify({ order: { ...order, scope: { type: 'cellar', cellarId: 'x' } } }),
    JSON.stringify({ order: { ...order, scope: { type: '__proto__' } } }),
    JSON.stringify({ order: { ...order, scope: { type: 'worker', worker: 'wrk_1' } } }),
    JSON.stringify({ order: { ...order, scope: { type: 'selector', selector: '=' } } }),
    JSON.stringify({ order: { ...order, scope: { type: 'selector', selector: '' } } }),
    JSON.stringify({ order, targets: 'agt_1-0-1' }),
    JSON.stringify({ order, targets: [7] }),
  ])('R31 takes %s for nothing said', (message) => {
    expect(readDoorbell(message)).toBeUndefined();
  });
});
