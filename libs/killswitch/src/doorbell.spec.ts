import { readDoorbell } from './doorbell';

const said = (value: unknown) => readDoorbell(JSON.stringify(value));

describe('the doorbell', () => {
  it('names an order, with and without targets, and no other field of it is read', () => {
    const order = { id: 'ord_1', kind: 'kill', scope: { type: 'all' } };
    expect(said({ order })).toEqual({ orderId: 'ord_1', targets: [] });
    expect(said({ order, targets: ['agt_1-0-1'] })).toEqual({ orderId: 'ord_1', targets: ['agt_1-0-1'] });
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
    '{"order":{"id":7}}',
    '{"ask":7}',
    '{"order":{"id":"ord_1"},"targets":"agt_1-0-1"}',
    '{"order":{"id":"ord_1"},"targets":[7]}',
    '{"order":{"id":"ord_1"},"targets":null}',
  ])('R31 takes %s for nothing said', (message) => {
    expect(readDoorbell(message)).toBeUndefined();
  });
});
