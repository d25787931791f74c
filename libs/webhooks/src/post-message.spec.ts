import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { startReceiver, type Answer, type Receiver } from '../../../test/support/receiver';
import { postMessage } from './post-message';
import { keyOf } from './sign-message';

const DELIVERY = { id: 'evt_1-0', type: 'order.open', body: '{"type":"order.open","data":{}}' };
const never = new AbortController().signal;

let receiver: Receiver | undefined;
afterEach(async () => receiver?.stop());

async function post(
  answer: Answer | Parameters<typeof startReceiver>[0],
  closing = never,
): ReturnType<typeof postMessage> {
  await receiver?.stop();
  receiver = await startReceiver(typeof answer === 'function' ? answer : () => answer ?? 204);
  const endpoint = { url: new URL(receiver.url), keys: [keyOf(receiver.secret)!] };
  return postMessage(endpoint, DELIVERY, closing, 400);
}

describe('one try to send a message', () => {
  it.each([
    [204, 'delivered'],
    [410, { failed: 'answered 410: the endpoint wants no such message any more' }],
    [500, { retry: 'answered 500' }],
    ['hang', { retry: 'no answer within 400 ms' }],
  ] as const)('that is answered by %p', async (answer, verdict) => {
    expect(await post(answer)).toEqual(verdict);
    expect(receiver?.got.map(({ id, isSigned }) => [id, isSigned])).toEqual([['evt_1-0', true]]);
  });

  it('follows no redirect', async () => {
    const verdict = await post((_count, _got, response) => {
      response.writeHead(307, { location: receiver?.url ?? '' }).end();
      return 'hang';
    });
    expect(verdict).toEqual({ retry: 'answered 307: redirects are not followed' });
    expect(receiver?.got).toHaveLength(1);
  });

  it('ends although the body of the answer has no end', async () => {
    const verdict = await post((_count, _got, response) => {
      response.writeHead(200);
      const more = (): void => void (response.destroyed || response.write('x'.repeat(4_096), more));
      more();
      return 'hang';
    });
    expect(verdict).toBe('delivered');
  });

  it('that this process cuts off counts as not made', async () => {
    const closing = new AbortController();
    const verdict = await post(() => {
      closing.abort();
      return 'hang';
    }, closing.signal);
    expect(verdict).toBe('requeue');
    expect(await post(204, closing.signal)).toBe('requeue');
  });

  it('without a listener names the fault and no address', async () => {
    const server = createServer();
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as AddressInfo;
    await new Promise((done) => server.close(done));
    const url = new URL(`http://127.0.0.1:${port}/path-that-is-secret`);
    expect(await postMessage({ url, keys: [] }, DELIVERY, never)).toEqual({
      retry: 'no answer: ECONNREFUSED',
    });
  });
});
