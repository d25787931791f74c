import { execFile } from 'node:child_process';
import { connect } from 'node:net';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { agentIdOf, PRODUCERS_QUEUE } from '#libs/contracts';
import { Queue } from 'bullmq';
import { startCollector, type Collector, type GotSpan } from '../support/collector';
import { eventually } from '../support/fleet';
import { ended, ready } from '../support/executions';
import { fleetPerTest } from '../support/own-fleet';

/** One trace per execution (docs/observability.md). */
const { begin, onEnd, it } = fleetPerTest();
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const CALLER = '00f067aa0ba902b7';
const CALLERS = `00-${TRACE}-${CALLER}-01`;
const HEX = { trace: /^[0-9a-f]{32}$/, span: /^[0-9a-f]{16}$/ };
const HOST = resolve(__dirname, '../fixtures/traced-host.cjs');

const sh = (script: string, env: Record<string, string> = {}) => ({
  command: ['/bin/sh', '-c', script],
  env,
});
const SAYS = 'echo "TRACEPARENT=${TRACEPARENT-none}"';
const DEAF = `${SAYS}; echo ready; while :; do sleep 0.2; done`;

async function collect(status?: number | 'silent'): Promise<Collector> {
  const collector = await startCollector(status);
  onEnd(async () => collector.stop());
  return collector;
}

/** The spans of an execution once there are that many. */
const spansOf = async (collector: Collector, executionId: string, count: number): Promise<GotSpan[]> =>
  eventually(
    () => {
      const own = collector.spans.filter(
        ({ attributes }) => attributes['belay.execution.id'] === executionId,
      );
      return own.length >= count ? own : undefined;
    },
    `${count} spans of ${executionId}`,
    60_000,
    async () => JSON.stringify(collector.spans.map(({ name, attributes }) => ({ name, attributes }))),
  );
const named = (spans: readonly GotSpan[], name: string, nodeId?: string): GotSpan => {
  const found = spans.filter((span) => span.name === name && span.attributes['belay.node.id'] === nodeId);
  expect(found).toHaveLength(1);
  return found[0] as GotSpan;
};

it('R67 one trace: submit, attempts, spawn, the kill with its order and the grade of its proof; the agent gets its place', async () => {
  const collector = await collect();
  const fleet = await begin({ workers: 2, env: { BELAY_OTLP_ENDPOINT: collector.url } });
  // Both hear of the order, and one makes its span.
  const other = await fleet.addOrchestrator();
  const { execution } = await fleet.client.createExecution({
    name: 'traced',
    onFailure: 'continue',
    nodes: [
      { id: 'ends', run: sh(SAYS, { SECRET: 'do-not-tell-1' }) },
      { id: 'killed', run: sh(`${DEAF} # do-not-tell-2`) },
    ],
  });
  const victim = agentIdOf(execution.id, 1, 1);
  await ready(fleet.client, execution.id, 1);
  const receipt = await fleet.client.kill({
    scope: { type: 'agent', agentId: victim },
    reason: 'killswitch',
    note: 'do-not-tell-3',
  });
  expect(receipt).toMatchObject({ complete: true });
  const spans = await spansOf(collector, execution.id, 6);

  expect(spans.map(({ name }) => name).toSorted()).toEqual([
    'belay.attempt',
    'belay.attempt',
    'belay.kill',
    'belay.spawn',
    'belay.spawn',
    'belay.submit',
  ]);
  expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1);
  expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
  for (const { traceId, spanId, start, end } of spans) {
    expect(traceId).toMatch(HEX.trace);
    expect(spanId).toMatch(HEX.span);
    expect(end >= start).toBe(true);
  }
  const submit = named(spans, 'belay.submit');
  expect(submit).toMatchObject({ service: 'belay-orchestrator', attributes: { 'belay.execution.nodes': 2 } });
  expect(submit.parentSpanId).toBeUndefined();
  const [done, killed] = [named(spans, 'belay.attempt', 'ends'), named(spans, 'belay.attempt', 'killed')];
  expect(done).toMatchObject({
    service: 'belay-worker',
    parentSpanId: submit.spanId,
    status: {},
    attributes: { 'belay.agent.state': 'completed', 'belay.agent.exit_code': 0, 'belay.agent.attempt': 1 },
  });
  expect(killed).toMatchObject({
    service: 'belay-worker',
    parentSpanId: submit.spanId,
    status: {},
    attributes: {
      'belay.agent.id': victim,
      'belay.agent.state': 'killed',
      'belay.stop.reason': 'killswitch',
      'belay.order.id': receipt.orderId,
      'belay.proof.grade': receipt.grade,
    },
  });
  expect(killed.events.map(({ name }) => name)).toEqual([
    'belay.stop.asked',
    'belay.stop.signalled',
    'belay.proved',
  ]);
  expect(fleet.workers.map(({ id }) => id)).toContain(killed.instance);
  for (const [nodeId, attempt] of Object.entries({ ends: done, killed })) {
    const spawn = named(spans, 'belay.spawn', nodeId);
    expect(spawn.parentSpanId).toBe(attempt.spanId);
    expect(spawn.start).toBe(attempt.start);
    expect(spawn.end <= attempt.end).toBe(true);
  }
  expect(named(spans, 'belay.kill')).toMatchObject({
    service: 'belay-orchestrator',
    parentSpanId: submit.spanId,
    status: {},
    links: [{ traceId: submit.traceId, spanId: killed.spanId }],
    events: [{ name: 'belay.proved', attributes: { 'belay.proof.grade': receipt.grade } }],
    attributes: {
      'belay.order.id': receipt.orderId,
      'belay.order.scope': 'agent',
      'belay.order.state': 'complete',
      'belay.order.targets': 1,
      'belay.proof.grade': receipt.grade,
    },
  });
  // The agent's own spans become children of its attempt's.
  for (const [id, attempt] of [
    [agentIdOf(execution.id, 0, 1), done],
    [victim, killed],
  ] as const) {
    const { lines } = await fleet.client.logs(id);
    expect(lines[0]?.line).toBe(`TRACEPARENT=00-${submit.traceId}-${attempt.spanId}-01`);
  }
  expect(collector.text).not.toContain('do-not-tell');
  expect(collector.text).not.toContain(fleet.token);
  const metrics = await (
    await fetch(`${fleet.client.url}/metrics`, { headers: { authorization: `Bearer ${fleet.token}` } })
  ).text();
  expect(metrics).toMatch(/^belay_trace_spans_sent_total [1-9]/m);
  // A second span of the kill would be among the last ones that its orchestrator sends.
  other.process.kill('SIGTERM');
  expect(await other.exited).toBe(0);
  expect(collector.spans.filter(({ name }) => name === 'belay.kill')).toHaveLength(1);
  expect(metrics).toMatch(/^belay_trace_spans_dropped_total 0$/m);
}, 180_000);

it('R67 the trace of the caller goes on: by header, by job, and not where the caller records nothing', async () => {
  const collector = await collect();
  const fleet = await begin({ workers: 1, env: { BELAY_OTLP_ENDPOINT: collector.url } });
  const spec = { name: 'mine', nodes: [{ id: 'a', run: sh(SAYS) }] };
  const submit = async (traceparent: string, body: object = spec): Promise<string> => {
    const answer = await fetch(`${fleet.client.url}/api/executions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${fleet.token}`, 'content-type': 'application/json', traceparent },
      body: JSON.stringify(body),
    });
    expect(answer.status).toBe(201);
    return ((await answer.json()) as { id: string }).id;
  };
  const said = async (id: string): Promise<string | undefined> =>
    (await fleet.client.logs(agentIdOf(id, 0, 1))).lines[0]?.line;

  const queue = new Queue(PRODUCERS_QUEUE, { connection: { url: fleet.server.url } });
  onEnd(async () => queue.close());
  const unsampled = await submit(`00-${TRACE}-${CALLER}-00`);
  const broken = await submit('00-broken');
  const own = await submit(CALLERS, {
    ...spec,
    nodes: [{ id: 'a', run: sh(SAYS, { TRACEPARENT: 'the-specs-own' }) }],
  });
  await queue.add('data', { ...spec, traceparent: CALLERS });
  await queue.add('carried', spec, { telemetry: { metadata: JSON.stringify({ traceparent: CALLERS }) } });
  const ids = await eventually(async () => {
    const { items } = await fleet.client.executions();
    return items.length === 5 && items.every(({ state }) => state === 'completed')
      ? items.map(({ id }) => id)
      : undefined;
  }, 'the end of five executions');

  for (const id of ids) {
    if (id === unsampled || id === broken) continue;
    const spans = await spansOf(collector, id, 3);
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([TRACE]));
    expect(named(spans, 'belay.submit').parentSpanId).toBe(CALLER);
    const attempt = named(spans, 'belay.attempt', 'a');
    // A spec that sets the variable keeps its value.
    expect(await said(id)).toBe(
      id === own ? 'TRACEPARENT=the-specs-own' : `TRACEPARENT=00-${TRACE}-${attempt.spanId}-01`,
    );
  }
  const [first] = await spansOf(collector, broken, 3);
  expect(first?.traceId).toMatch(HEX.trace);
  expect(first?.traceId).not.toBe(TRACE);
  expect(await said(unsampled)).toMatch(new RegExp(`^TRACEPARENT=00-${TRACE}-[0-9a-f]{16}-00$`));
  expect(collector.text).not.toContain(unsampled);
}, 180_000);

it('R67 an attempt that its worker lost ends as a span with the error lost', async () => {
  const collector = await collect();
  const fleet = await begin({
    workers: 1,
    env: { BELAY_OTLP_ENDPOINT: collector.url, BELAY_LEASE_TTL_MS: '3000', BELAY_HEARTBEAT_MS: '200' },
  });
  const { execution } = await fleet.client.createExecution({
    name: 'lost',
    nodes: [{ id: 'a', maxAttempts: 1, run: sh(DEAF) }],
  });
  await ready(fleet.client, execution.id, 1);
  const [worker] = fleet.workers;
  worker?.process.kill('SIGKILL');
  expect(await ended(fleet.client, execution.id)).toMatchObject({ state: 'failed' });
  const spans = await spansOf(collector, execution.id, 3);
  expect(named(spans, 'belay.attempt', 'a')).toMatchObject({
    service: 'belay-orchestrator',
    parentSpanId: named(spans, 'belay.submit').spanId,
    status: { code: 2, message: 'lost' },
    attributes: {
      'belay.worker.id': worker?.id,
      'belay.stop.reason': 'worker_lost',
      'belay.agent.state': 'failed',
    },
  });
}, 180_000);

it.each([
  { how: 'down', status: undefined },
  { how: 'refusing', status: 503 },
  { how: 'silent', status: 'silent' as const },
])(
  'R67 a collector that is $how changes nothing for agents: spans are counted as dropped, with one warning',
  async ({ status }) => {
    const collector = await collect(status);
    if (status === undefined) await collector.stop();
    const fleet = await begin({ workers: 1, env: { BELAY_OTLP_ENDPOINT: collector.url } });
    const headers = { authorization: `Bearer ${fleet.token}` };
    const dropped = async (): Promise<number> => {
      const metrics = await (await fetch(`${fleet.client.url}/metrics`, { headers })).text();
      return Number(/^belay_trace_spans_dropped_total (\d+)$/m.exec(metrics)?.[1]);
    };
    // Each round is a batch of its own.
    for (let rounds = 0; rounds < 2; rounds++) {
      const before = await dropped();
      const { execution } = await fleet.client.createExecution({
        name: 'x',
        nodes: [{ id: 'a', run: sh(SAYS) }],
      });
      expect(await ended(fleet.client, execution.id)).toMatchObject({ state: 'completed' });
      await eventually(async () => (await dropped()) > before, 'dropped spans in the metrics');
    }
    const { execution } = await fleet.client.createExecution({
      name: 'x',
      nodes: [{ id: 'a', run: sh(DEAF) }],
    });
    await ready(fleet.client, execution.id, 1);
    expect(await fleet.client.stop(execution.id)).toMatchObject({
      status: 'stopped',
      receipt: { complete: true },
    });
    const members = [...fleet.orchestrators, ...fleet.workers];
    for (const { process: child } of members) child.kill('SIGTERM');
    for (const member of members) {
      expect(await member.exited).toBe(0);
      expect(member.log().match(/takes no spans/g)).toHaveLength(1);
    }
  },
  180_000,
);

/** Every command of Belay's that has to do with traces, of its scripts too, from now on. */
async function watchCommands(path: string): Promise<() => string[]> {
  const socket = connect(path);
  onEnd(() => void socket.destroy());
  let text = '';
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece));
  socket.write('MONITOR\r\n');
  await eventually(() => text.startsWith('+OK'), 'the monitor');
  // A line: time, [database address] and the command with its arguments, each in quotes.
  return () =>
    text
      .split('\r\n')
      .filter((line) => /traceparent|traced:/.test(line))
      .map((line) => /\] "(\w+)"/.exec(line)?.[1]?.toLowerCase() ?? line);
}

it('R67 an attempt costs two reads of its place with the setting', async () => {
  const collector = await collect();
  const fleet = await begin({ workers: 1, env: { BELAY_OTLP_ENDPOINT: collector.url } });
  const commands = await watchCommands(String(fleet.server.socketPath));
  const { execution } = await fleet.client.createExecution({
    name: 'counted',
    nodes: [{ id: 'a', run: sh(SAYS) }],
  });
  await spansOf(collector, execution.id, 3);
  await eventually(() => commands().length >= 2, 'the commands');
  expect(commands()).toEqual(['hget', 'hget']);
}, 180_000);

it('R67 without the setting there is no trace: no variable, no field, no metric, no command', async () => {
  const fleet = await begin({ workers: 1 });
  const commands = await watchCommands(String(fleet.server.socketPath));
  const answer = await fetch(`${fleet.client.url}/api/executions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${fleet.token}`,
      'content-type': 'application/json',
      traceparent: CALLERS,
    },
    body: JSON.stringify({ name: 'plain', nodes: [{ id: 'a', run: sh(SAYS) }] }),
  });
  const { id } = (await answer.json()) as { id: string };
  expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
  expect((await fleet.client.logs(agentIdOf(id, 0, 1))).lines[0]?.line).toBe('TRACEPARENT=none');
  const last = await fleet.client.createExecution({ name: 'last', nodes: [{ id: 'a', run: sh(DEAF) }] });
  await ready(fleet.client, last.execution.id, 1);
  expect(await fleet.client.stop(last.execution.id)).toMatchObject({ receipt: { complete: true } });
  expect(commands()).toEqual([]);
  const { redis, keys } = fleet.life.valkey;
  expect(await redis.hget(keys.execution(id), 'traceparent')).toBeNull();
  const headers = { authorization: `Bearer ${fleet.token}` };
  expect(await (await fetch(`${fleet.client.url}/metrics`, { headers })).text()).not.toContain('belay_trace');
}, 180_000);

it('R67 the code that makes spans is loaded with the setting only', async () => {
  const collector = await collect();
  const run = async (options: object): Promise<unknown> =>
    JSON.parse((await promisify(execFile)(process.execPath, [HOST, JSON.stringify(options)])).stdout);
  expect(await run({})).toEqual({ state: 'completed', isLoaded: false });
  expect(await run({ otlpEndpoint: collector.url })).toEqual({ state: 'completed', isLoaded: true });
  expect(collector.spans.map(({ name }) => name).toSorted()).toEqual([
    'belay.attempt',
    'belay.spawn',
    'belay.submit',
  ]);
}, 180_000);
