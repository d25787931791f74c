import type { Delivery, DeliveryVerdict } from '#libs/dispatch';
import { signatureHeaders } from './sign-message';
import type { Endpoint } from './webhooks.types';

/** A try must be answered within this. Milliseconds. */
export const TRY_MS = 10_000;
/** More of an answer's body is not read. It is thrown away: reading it lets the connection be used again. Bytes. */
const ANSWER_BYTES = 1_024;
const MOST_REASON = 200;

/**
 * Sends a message once. No redirect is followed: its target was not named by the operator. A reason names neither the URL nor
 * the answer's body.
 * @param closing aborted when this process ends: the try then counts as not made
 */
export async function postMessage(
  { url, keys }: Pick<Endpoint, 'url' | 'keys'>,
  delivery: Delivery,
  closing: AbortSignal,
  tryMs = TRY_MS,
): Promise<DeliveryVerdict> {
  if (closing.aborted) return 'requeue';
  const limit = new AbortController();
  const abort = (): void => limit.abort();
  const timer = setTimeout(abort, tryMs);
  closing.addEventListener('abort', abort, { once: true });
  try {
    const seconds = Math.floor(Date.now() / 1_000);
    const response = await fetch(url, {
      method: 'POST',
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'user-agent': 'belay-webhooks',
        ...signatureHeaders(keys, delivery, seconds),
      },
      body: delivery.body,
      signal: limit.signal,
    });
    await discard(response);
    return verdictOf(response.status);
  } catch (error) {
    if (closing.aborted) return 'requeue';
    if (limit.signal.aborted) return { retry: `no answer within ${tryMs} ms` };
    return { retry: reasonOf(error) };
  } finally {
    clearTimeout(timer);
    closing.removeEventListener('abort', abort);
  }
}

function verdictOf(status: number): DeliveryVerdict {
  if (status >= 200 && status < 300) return 'delivered';
  if (status === 410) return { failed: 'answered 410: the endpoint wants no such message any more' };
  if (status >= 300 && status < 400) return { retry: `answered ${status}: redirects are not followed` };
  return { retry: `answered ${status}` };
}

/** The status alone decides, so a body that breaks off is no fault. */
async function discard({ body }: Response): Promise<void> {
  if (body === null) return;
  const reader = body.getReader();
  try {
    for (let read = 0; read <= ANSWER_BYTES;) {
      const { done, value } = await reader.read();
      if (done) return;
      read += value.byteLength;
    }
    await reader.cancel();
  } catch {
    // Also at the limit: the status came before it.
  }
}

function reasonOf(error: unknown): string {
  const { cause } = error as { readonly cause?: { readonly code?: unknown } };
  const code = typeof cause?.code === 'string' ? cause.code : 'the connection failed';
  return `no answer: ${code}`.slice(0, MOST_REASON);
}
