import { inspect } from 'node:util';
import { keyOf, signatureHeaders } from './sign-message';

// The example of the Standard Webhooks libraries.
const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const MESSAGE = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', body: '{"test": 2432232314}' };

describe('the signature of a message', () => {
  it('is that of the example of Standard Webhooks', () => {
    const key = keyOf(SECRET)!;
    expect(signatureHeaders([key], MESSAGE, 1_614_265_330)).toEqual({
      'webhook-id': MESSAGE.id,
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });

  it('is made with each of two secrets, and no key can be printed', () => {
    const keys = [keyOf(SECRET)!, keyOf(`whsec_${Buffer.alloc(24, 7).toString('base64')}`)!];
    const { 'webhook-signature': signature } = signatureHeaders(keys, MESSAGE, 1);
    expect(signature).toMatch(/^v1,\S{44} v1,\S{44}$/);
    expect(inspect(keys) + JSON.stringify(keys)).not.toContain(SECRET.slice(6, 16));
  });

  it.each(['', 'whsec_', SECRET.slice(6), 'whsec_short', `whsec_${'A'.repeat(200)}`, `${SECRET}!`])(
    'has no key from %j',
    (secret) => expect(keyOf(secret)).toBeUndefined(),
  );
});
