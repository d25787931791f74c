import { orderProblem } from './order-shape';
import type { Order } from './orders';

const ID = 'ord_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const order: Order = {
  id: ID,
  seq: '1-0',
  kind: 'kill',
  scope: { type: 'all' },
  mode: 'graceful',
  reason: 'killswitch',
  by: 'cli',
  placedAt: 1,
};

describe('R31 a stored order', () => {
  it.each([
    { type: 'all' },
    { type: 'pool', pool: 'gpu' },
    { type: 'selector', selector: 'team=data' },
    { type: 'worker', workerId: 'wrk_1' },
    { type: 'execution', executionId: 'exe_1' },
    { type: 'agent', agentId: 'agt_1-0-1' },
  ])('of scope %j is an order', (scope) => {
    expect(orderProblem(ID, { ...order, scope, graceMs: 5, note: 'why' })).toBeUndefined();
    expect(orderProblem(ID, { ...order, scope, reach: { 'belay:0': 7, 'belay:1': 0 } })).toBeUndefined();
  });

  it.each([
    [null, 'not an object'],
    [[], 'not an object'],
    [7, 'not an object'],
    [{ ...order, id: 'ord_01HZZZZZZZZZZZZZZZZZZZZZZA' }, 'stored under'],
    [{ ...order, seq: undefined }, 'seq'],
    [{ ...order, by: 7 }, 'by'],
    [{ ...order, kind: 'drown' }, 'kind'],
    [{ ...order, mode: 'gently' }, 'mode'],
    [{ ...order, placedAt: '1' }, 'placedAt'],
    [{ ...order, graceMs: '1' }, 'graceMs'],
    [{ ...order, reach: null }, 'reach'],
    [{ ...order, reach: 7 }, 'reach'],
    [{ ...order, reach: { 'belay:0': '7' } }, 'reach'],
    [{ ...order, scope: null }, 'scope'],
    [{ ...order, scope: { type: 'cellar', cellarId: 'x' } }, 'scope'],
    [{ ...order, scope: { type: '__proto__' } }, 'scope'],
    [{ ...order, scope: { type: 'worker', worker: 'wrk_1' } }, 'scope'],
    [{ ...order, scope: { type: 'selector', selector: '=' } }, 'scope'],
    [{ ...order, scope: { type: 'selector', selector: '' } }, 'scope'],
  ])('%j is none, and it is said why', (value, why) => {
    expect(orderProblem(ID, value)).toContain(why);
  });
});
