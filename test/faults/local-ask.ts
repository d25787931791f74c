import { connect } from 'node:net';
import type { LocalReceipt } from '#libs/killswitch';
import type { Asker } from './asker';
import { pause, uptime } from './clock';

/** Grace and proof are far below. */
const ANSWER_WITHIN_MS = 12_000;

/**
 * Break-glass: kills the whole worker over its own socket, with or without a server. Then releases the latch that the worker
 * engaged for itself, if it could engage it by then.
 */
export async function breakGlass(
  asker: Asker,
  { workerId, socket }: { readonly workerId: string; readonly socket: string },
  holdMs: number,
): Promise<void> {
  const order = asker.begin('break-glass', { covers: { what: 'worker', workerId }, local: true });
  try {
    const text = await ask(socket, { scope: { type: 'all' }, mode: 'graceful', by: 'campaign' });
    const { id, complete, targets } = JSON.parse(text) as LocalReceipt;
    order.receipt = {
      orderId: id,
      kind: 'kill',
      complete,
      targets: targets.map(({ agentId, outcome, report }) => ({
        agentId,
        workerId,
        outcome,
        survivors: report?.survivors.length ?? 0,
      })),
    };
    order.answeredAt = uptime();
  } catch (error) {
    // The worker is away, suspended, or ended in the middle: it has promised nothing.
    order.error = error instanceof Error ? error.message : String(error);
  }
  await pause(holdMs);
  await asker.releaseWorker(order, workerId);
}

function ask(path: string, request: object): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(path, () => socket.write(`${JSON.stringify(request)}\n`));
    const late = setTimeout(() => socket.destroy(new Error('no answer in time')), ANSWER_WITHIN_MS);
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(late);
      if (text.endsWith('\n')) resolve(text);
      else reject(new Error('it hung up without an answer'));
    });
  });
}
