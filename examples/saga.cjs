// A saga: acts in order, and when one is refused, the acts before it are undone in reverse.
require('reflect-metadata');
const { AgentHandler } = require('belayd/nest');

async function shop(act, order) {
  // The key makes a repeated request the same request.
  const response = await fetch(`${process.env.SHOP_URL}/${act}/${order}`, {
    method: 'POST',
    headers: { 'idempotency-key': `${act}-${order}` },
  });
  // A refusal is a result, and is stored. Anything else is an error: nobody knows how far it came.
  if (response.status === 409) return { refused: await response.text() };
  if (!response.ok) throw new Error(`${act}: ${response.status}`);
  return { refused: null };
}

class Purchase {
  async run({ order }, context) {
    const done = [];
    for (const act of ['reserve', 'pay', 'ship']) {
      const { refused } = await context.step(act, () => shop(act, order));
      if (refused === null) {
        done.push(act);
        continue;
      }
      // Stored results alone decide which acts are undone: every attempt that comes here undoes the same, each once.
      for (const past of done.toReversed())
        await context.step(`undo ${past}`, () => shop(`undo-${past}`, order));
      return { state: 'undone', because: refused };
    }
    return { state: 'shipped' };
  }
}
AgentHandler('purchase')(Purchase);
module.exports = { Purchase };
