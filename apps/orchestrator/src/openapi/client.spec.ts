import Ajv2020 from 'ajv/dist/2020';
import { createClient, type BelayClient } from '#libs/client';
import { makeDocument, type Json } from './document';

const document = JSON.parse(JSON.stringify(makeDocument())) as ReturnType<typeof makeDocument>;
const ajv = new Ajv2020({ strict: false });
ajv.addSchema({ $id: 'doc:', components: document.components }, 'doc:', true, false);

interface Sent {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: unknown;
}

/** Everything that a client sends. Each request is refused at once, so that none is repeated. */
const sent: Sent[] = [];
const client = createClient({
  url: 'http://127.0.0.1:1',
  token: 'secret',
  fetch: (async (url: string | URL, { method = 'GET', headers, body }: RequestInit = {}) => {
    const text = typeof body === 'string' ? (JSON.parse(body) as unknown) : undefined;
    sent.push({ method, url: new URL(url), headers: new Headers(headers), body: text });
    const problem = { type: 'about:blank', title: 'No', status: 400, code: 'INVALID_REQUEST', detail: 'no' };
    return new Response(JSON.stringify(problem), {
      status: 400,
      headers: { 'content-type': 'application/problem+json' },
    });
  }) as typeof fetch,
});

const SPEC = { name: 'x', nodes: [{ id: 'a', run: { command: ['true'] } }] };
const EXE = 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const AGENT = 'agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-0-1';
const ORDER = 'ord_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const LATCH = 'lat_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const ASK = 'ask_01HZZZZZZZZZZZZZZZZZZZZZZZ-0-1-1';
const page = { cursor: 'c', limit: 10 };
const scope = { type: 'execution', executionId: EXE } as const;

type Method = Exclude<keyof BelayClient, 'url'>;
/** Calls of every method, with everything that it takes. */
const CALLS: { readonly [M in Method]: readonly (() => unknown)[] } = {
  createExecution: [
    () => client.createExecution(SPEC, { start: false, queue: false }),
    () => client.createExecution({ ...SPEC, idempotencyKey: 'k' }),
  ],
  executions: [() => client.executions({ state: ['running', 'failed'], labels: { team: 'data' }, ...page })],
  execution: [() => client.execution(EXE)],
  nodes: [() => client.nodes(EXE, { state: ['failed'], ...page })],
  node: [() => client.node(EXE, 'a')],
  start: [() => client.start(EXE)],
  stop: [() => client.stop(EXE, { note: 'x', mode: 'immediate' }), () => client.stop(EXE)],
  deleteExecution: [() => client.deleteExecution(EXE)],
  stopWithoutWaiting: [() => client.stopWithoutWaiting(EXE)],
  events: [() => first(client.events(EXE, { lastEventId: '1-0' }))],
  allEvents: [() => first(client.allEvents({ type: ['execution'], state: ['failed'], selector: 'a=b' }))],
  waitForEnd: [() => client.waitForEnd(EXE)],
  createAgent: [() => client.createAgent({ run: { command: ['true'] } })],
  agents: [() => client.agents({ state: ['running'], owner: WORKER, executionId: EXE, ...page })],
  agent: [() => client.agent(AGENT)],
  killAgent: [() => client.killAgent(AGENT, { graceMs: 5 })],
  logs: [() => client.logs(AGENT), () => first(client.logs(AGENT, { follow: true }))],
  kill: [
    () => client.kill({ scope, kind: 'kill', latch: true }),
    () => client.kill({ scope: { type: 'all' } }),
  ],
  killWithoutWaiting: [() => client.killWithoutWaiting({ scope })],
  planKill: [() => client.planKill({ scope })],
  receipts: [() => client.receipts({ unproved: true, ...page })],
  receipt: [() => client.receipt(ORDER)],
  waitForReceipt: [() => client.waitForReceipt(ORDER)],
  closeOrder: [() => client.closeOrder(ORDER, 'why')],
  engageLatch: [() => client.engageLatch({ scope, note: 'why' })],
  latches: [() => client.latches()],
  limits: [() => client.limits()],
  setLimits: [() => client.setLimits({ limits: [{ by: 'fleet', running: 3 }] })],
  asks: [() => client.asks({ executionId: EXE, ...page })],
  ask: [() => client.ask(ASK)],
  answer: [() => client.answer(ASK, { choice: 'yes', hash: '0'.repeat(64) })],
  queues: [() => client.queues()],
  queue: [() => client.queue('gpu')],
  pauseQueue: [() => client.pauseQueue('gpu', { note: 'why' })],
  resumeQueue: [() => client.resumeQueue('gpu')],
  removeFromQueue: [() => client.removeFromQueue('gpu', { note: 'why', selector: 'a=b' }, { dryRun: true })],
  webhooks: [() => client.webhooks()],
  webhookDeliveries: [() => client.webhookDeliveries('pager')],
  quarantine: [() => client.quarantine()],
  latch: [() => client.latch(LATCH)],
  releaseLatch: [() => client.releaseLatch(LATCH, 'why')],
  pause: [() => client.pause(EXE, { mode: 'freeze' })],
  resume: [() => client.resume(EXE)],
  retryExecution: [() => client.retryExecution(EXE, { force: true, maxCostUsd: 5 })],
  signal: [() => client.signal(EXE, 'paid', { invoice: 77 }), () => client.signal(EXE, 'paid')],
  tokens: [() => client.tokens()],
  createToken: [() => client.createToken({ name: 'pager', role: 'stopper' })],
  revokeToken: [() => client.revokeToken('pager')],
  audit: [() => client.audit(page)],
  verifyAudit: [() => client.verifyAudit()],
  drill: [() => client.drill(WORKER, { hostile: true }), () => client.drill()],
  drills: [() => client.drills()],
  armed: [() => client.armed()],
  workers: [() => client.workers({ lost: true })],
  health: [() => client.health()],
};

async function first(frames: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of frames) return;
}

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Json }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Json }>> };
}

/** Why a request is not one of the document; undefined: it is. */
function faultOf({ method, url, headers, body }: Sent): string | undefined {
  // A path without parameters comes first, as in the server.
  const [, methods] =
    Object.entries(document.paths).find(([path]) => path === url.pathname) ??
    Object.entries(document.paths).find(([path]) =>
      new RegExp(`^${path.replaceAll('.', String.raw`\.`).replace(/\{\w+\}/g, '[^/]+')}$`).test(url.pathname),
    ) ??
    [];
  const operation = methods?.[method.toLowerCase()] as Operation | undefined;
  if (operation === undefined) return 'no such route';
  const { parameters = [] } = operation;
  const named = (place: string): string[] =>
    parameters.filter((one) => one.in === place).map(({ name }) => name);
  const unknown = [...url.searchParams.keys()].find((name) => !named('query').includes(name));
  if (unknown !== undefined) return `no query ${unknown}`;
  const ours = ['idempotency-key', 'last-event-id'].find(
    (name) => headers.has(name) && !named('header').some((one) => one.toLowerCase() === name),
  );
  if (ours !== undefined) return `no header ${ours}`;
  const schema = operation.requestBody?.content['application/json']?.schema;
  // Routes that take no body ignore an empty object.
  if (schema === undefined)
    return body === undefined || JSON.stringify(body) === '{}' ? undefined : 'no body';
  const isValid = ajv.compile({ $ref: `doc:${String(schema['$ref'])}` });
  return isValid(body) ? undefined : ajv.errorsText(isValid.errors);
}

describe('libs/client', () => {
  it('has no method that this test does not call', () => {
    const methods = Object.keys(client).filter((name) => name !== 'url');
    expect(Object.keys(CALLS).toSorted()).toEqual(methods.toSorted());
  });

  it.each(Object.entries(CALLS))('%s sends what the OpenAPI document describes', async (_name, calls) => {
    for (const call of calls) {
      sent.length = 0;
      await Promise.resolve(call()).catch(() => undefined);
      expect(sent.length).toBeGreaterThan(0);
      expect(sent.map((one) => [one.method, one.url.pathname + one.url.search, faultOf(one)])).toEqual(
        sent.map((one) => [one.method, one.url.pathname + one.url.search, undefined]),
      );
    }
  });
});
