// Two steps of work in this very process, on a private server that keeps nothing.
const { buildInMemoryBelay } = require('belayd');

async function main() {
  const belay = buildInMemoryBelay({ worker: { concurrency: 4 } });
  await belay.start();
  const { execution } = await belay.executions.submit({
    name: 'report',
    nodes: [
      { id: 'fetch', run: { command: ['sleep', '0.1'] } },
      { id: 'sum', dependsOn: ['fetch'], run: { command: ['true'] } },
    ],
  });
  const record = await belay.waitForEnd(execution.id, { timeoutMs: 30_000 });
  console.log(record.state, record.nodes);
  console.log(await belay.stop());
}

void main();
