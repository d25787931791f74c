import type { BelayClient, KillRequest } from '#libs/client';
import type { Receipt } from '#libs/contracts';
import type { ProofWait } from './wait-for-proof';

/** Places an order, reports that it is stored once an answer has shown that, and waits for its proof. */
export async function placeAndProve(
  client: BelayClient,
  request: KillRequest,
  { signal, stored }: ProofWait,
): Promise<Receipt> {
  const receipt = await client.killWithoutWaiting(request, { signal });
  stored(receipt.orderId);
  return receipt.state === 'open' ? await client.waitForReceipt(receipt.orderId, { signal }) : receipt;
}

/** The message when Ctrl-C ends the wait for an order: it claims only what an answer has shown. */
export function leftOrder(local: string): (stored: { readonly orderId?: string } | undefined) => string {
  return (stored) => {
    if (stored === undefined)
      return `No answer came: the order may not be stored. Look with: belay audit. Without the orchestrator: ${local}`;
    const { orderId } = stored;
    return orderId === undefined
      ? 'The order is stored and goes on. Look with: belay audit'
      : `Order ${orderId} is stored and goes on. Its evidence: belay receipt ${orderId}`;
  };
}
