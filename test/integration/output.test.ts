import { startFleet, type Fleet } from '../support/fleet';

/** What agents are given on stdin and what becomes of what they say, with real workers and a real server. */
let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 1 });
}, 60_000);
afterAll(async () => fleet.stop(), 60_000);

const sh = (script: string) => ({ command: ['/bin/sh', '-c', script] });

async function run(script: string, more: object = {}): Promise<{ id: string; agentId: string }> {
  const { execution } = await fleet.client.createExecution({
    name: 'output',
    nodes: [{ id: 'a', maxAttempts: 1, run: sh(script), ...more }],
  });
  await fleet.client.waitForEnd(execution.id, { giveUpAfterMs: 60_000 });
  const { items } = await fleet.client.nodes(execution.id);
  return { id: execution.id, agentId: items[0]?.agentId ?? '' };
}

it('the input ends with a newline, so that read -r of a shell succeeds', async () => {
  const { agentId } = await run('read -r line || exit 9; printf "%s\\n" "$line"; cat', { input: { a: 'é' } });
  const { lines } = await fleet.client.logs(agentId);
  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0]?.line ?? '')).toMatchObject({ input: { a: 'é' }, attempt: 1 });
  expect(await fleet.client.agent(agentId)).toMatchObject({ state: 'completed', exitCode: 0 });
});
