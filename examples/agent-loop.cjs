// An agent that plans, acts and checks. Each answer of the model is a step: an attempt that follows is given it, and pays for it no more.
require('reflect-metadata');
const { AgentHandler } = require('belayd/nest');

async function call(method, path, body) {
  const response = await fetch(`${process.env.MODEL_URL}${path}`, {
    method,
    body: body && JSON.stringify(body),
  });
  if (response.status === 404) return undefined;
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
  return response.json();
}

class AgentLoop {
  async run({ goal }, context) {
    const think = (name, question) =>
      context.step(name, async () => {
        const { text, usd } = await call('POST', '/model', { name, ...question });
        context.cost(usd); // where it is spent: an answer that is read from the store costs nothing
        return text;
      });

    const tasks = (await think('plan', { goal })).split('\n');
    const verdicts = [];
    for (const [turn, task] of tasks.entries()) {
      const text = await think(`act ${turn}`, { task });
      const write = () => call('POST', `/files/${turn}`, { text });
      // It changes the world: an attempt that finds it begun and not stored looks before it acts.
      await context.step(`write ${turn}`, write, {
        idempotent: false,
        decide: async () => (await call('GET', `/files/${turn}`)) ?? (await write()),
      });
      verdicts.push(await think(`check ${turn}`, { text }));
    }
    return { verdicts };
  }
}
AgentHandler('agent-loop')(AgentLoop);
module.exports = { AgentLoop };
