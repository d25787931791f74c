import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { agentQueueName, type AgentRecord, type BelayEvent } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer } from '#libs/local-server';
import { Queue } from 'bullmq';
import { Link } from '../faults/link';
import { ended, running as agentsRunning } from '../support/executions';
import { eventually, processesWith, type Member } from '../support/fleet';
import { fleetPerTest } from '../support/own-fleet';
import { demote, operatorOf, TROUBLES, errorMessage, type Site, type Trouble } from '../support/troubles';

const sh = (script: string) => ({ command: [script], shell: true });
const SLEEP = sh('echo ready; exec sleep 600');
/** The lease outlasts every trouble, so an agent that ends meanwhile was not fenced. */
const LONG_LEASE = { BELAY_LEASE_TTL_MS: '120000', BELAY_HEARTBEAT_MS: '300', BELAY_GRACE_MS: '300' };
/** For the test of a lease that ends: it must be over before. Milliseconds. */
const leaseMs = 8_000;
/** No call takes longer, whatever the server does: 10 s of retries, and the delay of a busy machine. Milliseconds. */
const ANSWER_MS = 25_000;
/** For a whole fleet that waits; a busy loop is a hundred times above. */
const BOUNDS = { commands: 1_500, connections: 10, lines: 20, processor: 0.5 };

interface Answer {
  readonly status: number;
  readonly text: string;
}

const { begin, fleet, it, onEnd } = fleetPerTest();

async function setUp(trouble: Omit<Trouble, 'name' | 'begin'>, env: Record<string, string>): Promise<Site> {
  const server = await startThrowawayServer({
    args: trouble.args ?? [],
    appendonly: trouble.appendonly === true,
  });
  onEnd(async () => server.stop());
  const link = trouble.linked === true ? await Link.open({ path: server.socketPath ?? '' }) : undefined;
  onEnd(() => link?.close());
  const operator = await operatorOf(server);
  onEnd(() => operator.disconnect());
  const url = link?.url ?? server.url;
  await begin({ url: server.url, workers: 2, env: { ...env, BELAY_VALKEY_URL: url } });
  return { server, operator, ...(link === undefined ? {} : { link }) };
}

/** A request of any program, without Belay's client and its retries in between. */
async function ask(method: 'GET' | 'POST', path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(`${fleet.orchestrators[0]?.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${fleet.token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  return { status: response.status, text: await response.text() };
}

/** Checks that it was done, or refused with 503 or 507, a code, advice, and no internals. */
function expectClear({ status, text }: Answer): void {
  if (status < 300) return;
  expect([503, 507]).toContain(status);
  const { code, detail } = JSON.parse(text) as { code: string; detail: string };
  expect(['SERVER_UNREACHABLE', 'SERVER_REFUSED', 'OUTCOME_UNKNOWN', 'SERVER_FULL']).toContain(code);
  expect(code === 'SERVER_FULL').toBe(status === 507);
  expect(detail).toMatch(/Check|Look before|[Tt]ry again/);
  expect(text).not.toMatch(/evalsha|ioredis|user_script|\.js:|max retries|writeable/i);
}

async function submit(nodes: unknown[]): Promise<string> {
  return (await fleet.client.createExecution({ name: 'test', nodes })).execution.id;
}

const running = async (id: string, count = 1): Promise<AgentRecord[]> =>
  agentsRunning(fleet.client, id, count, 60_000);

/** The request of `belay kill --local` to the worker of that agent. */
async function killLocally(agent: AgentRecord): Promise<unknown> {
  const socket = connect(join(fleet.dir, 'workers', `${agent.owner}.sock`));
  socket.setEncoding('utf8');
  const request = { scope: { type: 'agent', agentId: agent.id }, mode: 'immediate', by: 'test' };
  socket.write(`${JSON.stringify(request)}\n`);
  let text = '';
  for await (const chunk of socket) text += chunk as string;
  return JSON.parse(text);
}

const members = (): Member[] => [...fleet.workers, ...fleet.orchestrators];

/** Processor time that a process has used. Seconds. */
function processorSeconds(pid: number): number {
  const [user = 0, system = 0] = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return (user + system) / 100;
}

/** The least time over which the fleet's cost is counted. Seconds. */
const OBSERVED_S = 10;

/** The fleet's cost so far: its own processes, its logs, the server. */
async function spent(site: Site): Promise<Record<keyof typeof BOUNDS | 'at', number>> {
  const stats = await errorMessage(site.server, 'INFO stats');
  const count = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(stats)?.[1] ?? 0);
  return {
    at: performance.now() / 1000,
    commands: count('total_commands_processed') + count('total_error_replies'),
    connections: count('total_connections_received'),
    lines: members().reduce((sum, { log }) => sum + log().split('\n').length, 0),
    processor: members().reduce((sum, { process: { pid = 0 } }) => sum + processorSeconds(pid), 0),
  };
}

async function expectCalm(site: Site, since: Awaited<ReturnType<typeof spent>>): Promise<void> {
  const now = await spent(site);
  for (const [what, most] of Object.entries(BOUNDS) as [keyof typeof BOUNDS, number][]) {
    const perSecond = (now[what] - since[what]) / (now.at - since.at);
    expect({ what, perSecond, calm: perSecond < most }).toEqual({ what, perSecond, calm: true });
  }
}

/** The server may have refused this test's own connection as well: this waits for it. */
async function eventsOf(id: string): Promise<readonly BelayEvent[]> {
  let events: readonly BelayEvent[] | undefined;
  await eventually(async () => {
    try {
      events = await fleet.life.executions.events(id, '0-0');
    } catch (error) {
      if (!/writeable|closed/i.test((error as Error).message)) throw error;
    }
    return events !== undefined;
  }, "the test's own connection");
  return events ?? [];
}

/** Each attempt began once and ended once. */
function expectOnce(events: readonly BelayEvent[]): void {
  const moves = events
    .filter(({ type }) => /^agent\.(spawning|completed|failed|killed)$|^execution\.completed$/.test(type))
    .map(({ type, agentId }) => `${agentId ?? ''} ${type}`);
  expect(moves).toContain(' execution.completed');
  expect(moves).toEqual([...new Set(moves)]);
}

it.each(TROUBLES)(
  '$name: R25 R43 R52 R55 R68 agents run on, calls are answered, kills are obeyed, ends are stored once, nothing spins',
  async (trouble) => {
    const site = await setUp(trouble, LONG_LEASE);
    // A pipe and not a loop: the agent waits for the whole trouble without a process of its own every 50 ms.
    const pipe = join(fleet.dir, 'go');
    execFileSync('mkfifo', [pipe]);
    const go = openSync(pipe, 'r+');
    onEnd(() => closeSync(go));
    const said = `echo ready; read -r _ <${pipe}; echo '{"type":"result","value":42}' >&3`;
    const steady = await submit([{ id: 'a', run: SLEEP }]);
    const victim = await submit([{ id: 'a', run: SLEEP }]);
    const local = await submit([{ id: 'a', run: SLEEP }]);
    const ending = await submit([{ id: 'a', run: sh(said) }]);
    const [own] =
      (await Promise.all([local, steady, victim, ending].map(async (id) => running(id))))[0] ?? [];
    const untouched = processesWith(steady);
    // Work under way, so that claims, starts and ends meet the trouble.
    const busy = await submit(Array.from({ length: 30 }, (_, i) => ({ id: `n${i}`, run: sh('sleep 0.1') })));
    // By its count of ends: so short an agent may never be seen running.
    await eventually(async () => (await fleet.client.execution(busy)).nodes.completed > 0, 'work under way');

    const before = await spent(site);
    const end = await trouble.begin(site);
    if (trouble.says !== undefined)
      expect(await errorMessage(site.server, trouble.asked)).toMatch(trouble.says);
    writeSync(go, '\n');
    const later = { name: 'later', idempotencyKey: 'later', nodes: [{ id: 'a', run: sh('true') }] };
    const answers = await Promise.all([
      ask('GET', `/api/executions/${steady}`),
      ask('GET', '/api/agents'),
      ask('GET', '/api/workers'),
      ask('POST', '/api/executions', later),
      ask('POST', '/api/killswitch', { scope: { type: 'pool', pool: 'nobody' }, latch: false }),
    ]);
    for (const answer of answers) expectClear(answer);
    expect(await ask('GET', '/health')).toMatchObject({ status: 200 });
    // The caller with the longest retries has given up by now.
    expect(processesWith(steady)).toEqual(untouched);

    const stopping = ask('POST', `/api/executions/${victim}/stop`, { reason: 'user_abort' });
    stopping.catch(() => undefined);
    expect(await killLocally(own as AgentRecord)).toMatchObject({ complete: true });
    expect(processesWith(local)).toEqual([]);
    expect(processesWith(steady)).toEqual(untouched);
    if (trouble.obeys === true) expect(await stopping).toMatchObject({ status: 200 });
    // A rate takes a while to show: a server that carries out commands at once is left in its trouble as long as others take.
    await eventually(() => performance.now() / 1000 - before.at > OBSERVED_S, 'the end of the observation');
    await end();
    // Only now have all of them reported; a restarted one began again from none.
    await expectCalm(site, trouble.appendonly === true ? { ...before, commands: 0, connections: 0 } : before);
    const { status, text } = await stopping;
    expect({ status, stop: JSON.parse(text) as unknown }).toMatchObject({
      status: 200,
      stop: { status: 'stopped', receipt: { complete: true, totals: { killed: 1 } } },
    });
    expect(processesWith(victim)).toEqual([]);

    const { execution } = await fleet.client.createExecution(later);
    for (const id of [ending, busy, execution.id]) {
      expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
      expectOnce(await eventsOf(id));
    }
    expect(await fleet.client.node(ending, 'a')).toMatchObject({ result: 42 });
    expect(await ended(fleet.client, local)).toMatchObject({ state: 'stopped' });
    expect(processesWith(steady)).toEqual(untouched);
    await eventually(async () => (await fleet.client.armed()).armed, 'a fleet that can stop everything');
    for (const { process: child } of members())
      expect([child.exitCode, child.signalCode]).toEqual([null, null]);
  },
);

it('R27 a server that answers and takes no writes is no contact: workers end their agents before the lease can be granted again, and go on by themselves', async () => {
  const site = await setUp(
    {},
    {
      BELAY_LEASE_TTL_MS: String(leaseMs),
      BELAY_HEARTBEAT_MS: '200',
      BELAY_GRACE_MS: '200',
    },
  );
  const id = await submit([
    { id: 'deaf', run: sh(`trap '' TERM; while :; do sleep 0.05; done`) },
    { id: 'b', maxAttempts: 2, backoff: { delayMs: 0 }, run: SLEEP },
  ]);
  await running(id, 2);
  const end = await demote(site);
  const begunAt = performance.now();
  await eventually(async () => processesWith(id).length === 0, 'the end of its agents');
  expect(performance.now() - begunAt).toBeLessThan(leaseMs);
  await end();
  // Where the lease was renewed in time they are stopped and retried; otherwise the janitor has them retried.
  await eventually(
    async () =>
      (await fleet.client.agents({ executionId: id, state: ['running'] })).items.some(
        ({ attempt }) => attempt === 2,
      ),
    'the next attempt',
  );
  await fleet.client.stop(id);
  expect(processesWith(id)).toEqual([]);
});

it('a server that takes no writes is not asked for jobs as fast as it can refuse', async () => {
  const server = await startThrowawayServer();
  const operator = await operatorOf(server);
  const valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
  const queues = new AgentQueues(new LifecycleService(valkey, { retentionMs: 60_000 }), { prefix: 'bull' });
  const queue = new Queue(agentQueueName('default'), { connection: valkey.connections.create('blocking') });
  queue.on('error', () => undefined);
  let open: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const taken: string[] = [];
  const worker = queues.consume('default', 1, async ({ agentId }) => {
    taken.push(agentId);
    await gate;
    return 'done';
  });
  try {
    await queue.add('agent', { agentId: 'first' });
    await eventually(async () => taken.length === 1, 'the first job');
    const end = await demote({ server, operator });
    const number = async (name: string): Promise<number> =>
      Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await operator.info('stats'))?.[1] ?? 0);
    const refused = await number('total_error_replies');
    // Its end cannot be stored: BullMQ has a free slot and knows that there were jobs.
    open();
    await eventually(async () => (await number('total_error_replies')) > refused, 'a refusal');
    const before = await number('total_error_replies');
    await pause(2_000);
    expect((await number('total_error_replies')) - before).toBeLessThan(400);
    await end();
    await queue.add('agent', { agentId: 'second' });
    await eventually(async () => taken.includes('second'), 'the second job');
  } finally {
    await Promise.allSettled([worker.close(true), queue.close(), queues.close()]);
    valkey.close();
    operator.disconnect();
    await server.stop();
  }
});

it('R43 a claim whose answer is lost for longer than a call is patient is carried out when the server is back', async () => {
  const server = await startThrowawayServer();
  onEnd(async () => server.stop());
  const link = await Link.open({ path: server.socketPath ?? '' });
  onEnd(() => link.close());
  await begin({ url: server.url, workers: 0, env: LONG_LEASE });
  // The others have connections of their own: only the worker's traffic passes here.
  const worker = await fleet.addWorker({ BELAY_VALKEY_URL: link.url });
  const held = link.holdAtClaim(60_000, new AbortController().signal);
  const id = await submit([{ id: 'a', maxAttempts: 1, run: sh('true') }]);
  expect(await held).toBe(true);
  await eventually(async () => worker.log().includes('"script":"claimNode"'), 'the end of its patience');
  link.heal();
  expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
  expectOnce(await eventsOf(id));
});
