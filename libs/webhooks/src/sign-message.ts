import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';

const PREFIX = 'whsec_';
/** The sizes that Standard Webhooks allows. Bytes. */
const LEAST_BYTES = 24;
const MOST_BYTES = 64;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** The key of a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`; undefined where the text is none. */
export function keyOf(secret: string): KeyObject | undefined {
  const encoded = secret.slice(PREFIX.length);
  if (!secret.startsWith(PREFIX) || !BASE64.test(encoded)) return undefined;
  const bytes = Buffer.from(encoded, 'base64');
  return bytes.length < LEAST_BYTES || bytes.length > MOST_BYTES ? undefined : createSecretKey(bytes);
}

/** The headers by which a receiver knows the sender, as Standard Webhooks names them. */
export function signatureHeaders(
  keys: readonly KeyObject[],
  { id, body }: { readonly id: string; readonly body: string },
  seconds: number,
): Record<string, string> {
  const signatures = keys.map((key) => {
    const hash = createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64');
    return `v1,${hash}`;
  });
  return {
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    'webhook-signature': signatures.join(' '),
  };
}
