import {
  BelayError,
  EXECUTION_MACHINE,
  isEnded,
  type DeletedExecution,
  type ExecutionRecord,
  type LimitsRecord,
  type Receipt,
} from '#libs/contracts';
import { buildQuery } from './build-query';
import type {
  AgentLogs,
  BelayClient,
  CallOptions,
  ClientOptions,
  FollowOptions,
  KillRequest,
  PauseRequest,
  StopRequest,
} from './client.types';
import { followAllEvents, followEvents } from './follow-events';
import { followLogs } from './follow-logs';
import { sendRequest } from './repeat-request';
import type { Answer, RequestShape, Transport } from './send-request';

/** Added to a stop's grace: time for the kill, its proof and the server's own limit for both. Milliseconds. */
const PROOF_MARGIN_MS = 120_000;
/** A repeatable call is repeated for this long after its first failure: a restart, a failover. Milliseconds. */
const REPEAT_FOR_MS = 15_000;
/** After this silence an order is sent to another orchestrator, if one is known. Milliseconds. */
const ORDER_PATIENCE_MS = 5_000;
/** Node's fetch gives up on headers after 300 s by itself. This limit comes first, with a better message. */
const LONGEST_WAIT_MS = 290_000;

/** A client for one orchestrator, or for several of one fleet. It keeps no connection, so there is nothing to close. */
export function createClient(options: ClientOptions): BelayClient {
  const urls = (typeof options.url === 'string' ? [options.url] : options.url).map(checkUrl);
  const [url] = urls;
  if (url === undefined)
    throw new BelayError('INVALID_REQUEST', 'A client needs the address of an orchestrator.');
  const transport: Transport = {
    url,
    urls,
    repeatForMs: options.repeatForMs ?? REPEAT_FOR_MS,
    fetch: options.fetch ?? globalThis.fetch,
    ...(options.token === undefined ? {} : { token: options.token }),
  };
  const timeoutMs = options.timeoutMs ?? 30_000;
  const call = async (shape: Omit<RequestShape, 'timeoutMs'> & { timeoutMs?: number }): Promise<Answer> =>
    await sendRequest(transport, { timeoutMs, ...shape });
  const get = async <T>(path: string, { signal }: CallOptions = {}): Promise<T> =>
    (await call({ method: 'GET', path, ...withSignal(signal) })).body as T;
  const post = async <T>(
    path: string,
    body: unknown,
    { signal }: CallOptions = {},
    more: Pick<RequestShape, 'isRepeatable' | 'patienceMs' | 'onTimeout'> = {},
  ): Promise<T> => (await call({ method: 'POST', path, body, ...more, ...withSignal(signal) })).body as T;
  /** Submits under a key of its own, unless the spec has one, so that a try whose reply was lost can be repeated. */
  const submit = async (
    path: string,
    spec: unknown,
    { signal }: CallOptions = {},
  ): Promise<Answer & { own: boolean }> => {
    const own = !hasKey(spec);
    const headers = own ? { 'idempotency-key': `client-${crypto.randomUUID()}` } : {};
    const shape = {
      method: 'POST',
      path,
      body: spec,
      headers,
      isRepeatable: true,
      waitsForServer: true,
    } as const;
    return { ...(await call({ ...shape, ...withSignal(signal) })), own };
  };
  const postAndWait = async <T>(
    path: string,
    body: StopRequest | PauseRequest | { readonly workerId?: string },
    { onTimeout, isRepeatable = false }: { onTimeout: string; isRepeatable?: boolean },
    { signal }: CallOptions = {},
  ): Promise<T> => {
    const waitMs = Math.min(('graceMs' in body ? (body.graceMs ?? 0) : 0) + PROOF_MARGIN_MS, LONGEST_WAIT_MS);
    const shape = { method: 'POST', path, body, onTimeout, isRepeatable, ...withSignal(signal) } as const;
    return (await call({ ...shape, timeoutMs: waitMs })).body as T;
  };
  const execution = async (id: string, callOptions?: CallOptions): Promise<ExecutionRecord> =>
    await get(`/api/executions/${part(id)}`, callOptions);
  const events: BelayClient['events'] = (id, followOptions) =>
    followEvents(transport, `/api/executions/${part(id)}/events`, followOptions);

  return {
    get url() {
      return transport.url;
    },

    async createExecution(spec, { start, queue, signal } = {}) {
      const path = `/api/executions${buildQuery({ start: start === false ? false : undefined, queue: queue === false ? false : undefined })}`;
      const { status, body, own } = await submit(path, spec, withSignal(signal));
      // Under a key of this call's own, the execution exists only because an earlier try of the call had run.
      return { execution: body as ExecutionRecord, replayed: status === 200 && !own };
    },
    executions: async ({ state, labels, cursor, limit, signal } = {}) =>
      await get(`/api/executions${buildQuery({ state, cursor, limit }, labels)}`, withSignal(signal)),
    execution,
    nodes: async (id, { state, cursor, limit, signal } = {}) =>
      await get(
        `/api/executions/${part(id)}/nodes${buildQuery({ state, cursor, limit })}`,
        withSignal(signal),
      ),
    node: async (id, nodeId, callOptions) =>
      await get(`/api/executions/${part(id)}/nodes/${part(nodeId)}`, callOptions),
    start: async (id, callOptions) =>
      await post(`/api/executions/${part(id)}/start`, {}, callOptions, { isRepeatable: true }),
    stop: async (id, request = {}, callOptions) =>
      await postAndWait(
        `/api/executions/${part(id)}/stop`,
        request,
        { onTimeout: UNSTORED_STOP(id), isRepeatable: true },
        callOptions,
      ),
    async deleteExecution(id, { signal } = {}) {
      const path = `/api/executions/${part(id)}`;
      const onTimeout = `It may have been deleted. Look with: belay get ${id}`;
      return (await call({ method: 'DELETE', path, onTimeout, ...withSignal(signal) }))
        .body as DeletedExecution;
    },
    stopWithoutWaiting: async (id, request = {}, callOptions) =>
      await post(`/api/executions/${part(id)}/stop?wait=0`, request, callOptions, {
        isRepeatable: true,
        patienceMs: ORDER_PATIENCE_MS,
        onTimeout: UNSTORED_STOP(id),
      }),
    events,
    allEvents({ type, state, selector, ...followOptions } = {}) {
      const query = buildQuery({ type, state, label: selector });
      return followAllEvents(transport, `/api/events${query}`, followOptions);
    },
    async waitForEnd(id, followOptions) {
      let record = await execution(id, withSignal(followOptions?.signal));
      while (!isEnded(EXECUTION_MACHINE, record.state)) {
        for await (const event of events(id, followOptions)) void event;
        followOptions?.signal?.throwIfAborted();
        record = await execution(id, withSignal(followOptions?.signal));
      }
      return record;
    },

    createAgent: async (spec, callOptions) =>
      (await submit('/api/agents', spec, callOptions)).body as ExecutionRecord,
    agents: async ({ state, owner, executionId, cursor, limit, signal } = {}) =>
      await get(`/api/agents${buildQuery({ state, owner, executionId, cursor, limit })}`, withSignal(signal)),
    agent: async (id, callOptions) => await get(`/api/agents/${part(id)}`, callOptions),
    killAgent: async (id, request = {}, callOptions) =>
      await postAndWait(
        `/api/agents/${part(id)}/kill`,
        request,
        { onTimeout: UNSTORED, isRepeatable: true },
        callOptions,
      ),
    logs: ((
      id: string,
      logOptions: (CallOptions & { follow?: false }) | (FollowOptions & { follow: true }) = {},
    ) =>
      logOptions.follow === true
        ? followLogs(transport, `/api/agents/${part(id)}/logs?follow=1`, logOptions)
        : get<AgentLogs>(`/api/agents/${part(id)}/logs`, logOptions)) as BelayClient['logs'],

    kill: async (request, callOptions) =>
      await postAndWait(
        '/api/killswitch',
        request,
        { onTimeout: UNSTORED, isRepeatable: isJoined(request) },
        callOptions,
      ),
    killWithoutWaiting: async (request, callOptions) =>
      await post<Receipt>('/api/killswitch?wait=0', request, callOptions, {
        isRepeatable: isJoined(request),
        patienceMs: ORDER_PATIENCE_MS,
        onTimeout: UNSTORED,
      }),
    planKill: async (request, callOptions) => await post('/api/killswitch?dryRun=1', request, callOptions),
    receipts: async ({ unproved, cursor, limit, signal } = {}) =>
      await get(`/api/killswitch${buildQuery({ unproved, cursor, limit })}`, withSignal(signal)),
    receipt: async (orderId, callOptions) => await get(`/api/killswitch/${part(orderId)}`, callOptions),
    async waitForReceipt(orderId, { signal } = {}) {
      const path = `/api/killswitch/${part(orderId)}?wait=1`;
      return (await call({ method: 'GET', path, timeoutMs: PROOF_MARGIN_MS, ...withSignal(signal) }))
        .body as Receipt;
    },

    closeOrder: async (orderId, note, callOptions) =>
      await post(`/api/killswitch/${part(orderId)}/close`, { note }, callOptions),
    engageLatch: async (request, callOptions) => await post('/api/latches', request, callOptions),
    latches: async (callOptions) => await get('/api/latches', callOptions),
    limits: async (callOptions) => await get('/api/limits', callOptions),
    async setLimits(body, { signal } = {}) {
      const shape = { method: 'PUT', path: '/api/limits', body, isRepeatable: true } as const;
      const onTimeout = 'They may not have been stored. Look with: belay limits show';
      return (await call({ ...shape, onTimeout, ...withSignal(signal) })).body as LimitsRecord;
    },
    asks: async ({ executionId, cursor, limit, signal } = {}) =>
      await get(`/api/asks${buildQuery({ executionId, cursor, limit })}`, withSignal(signal)),
    ask: async (id, callOptions) => await get(`/api/asks/${part(id)}`, callOptions),
    answer: async (id, request, callOptions) =>
      await post(`/api/asks/${part(id)}`, request, callOptions, {
        onTimeout: `The answer may have been stored. Look with: belay asks ${id}`,
      }),
    queues: async (callOptions) => await get('/api/queues', callOptions),
    queue: async (pool, callOptions) => await get(`/api/queues/${part(pool)}`, callOptions),
    pauseQueue: async (pool, request = {}, callOptions) =>
      await post(`/api/queues/${part(pool)}/pause`, request, callOptions, REPEATABLE_HOLD),
    resumeQueue: async (pool, request = {}, callOptions) =>
      await post(`/api/queues/${part(pool)}/resume`, request, callOptions, REPEATABLE_HOLD),
    removeFromQueue: async (pool, request, { dryRun, ...callOptions } = {}) =>
      await post(
        `/api/queues/${part(pool)}/remove${buildQuery({ dryRun: dryRun === true ? 1 : undefined })}`,
        request,
        callOptions,
        { onTimeout: 'Some attempts may have been removed. Look with: belay queues' },
      ),
    webhooks: async (callOptions) => await get('/api/webhooks', callOptions),
    webhookDeliveries: async (name, callOptions) =>
      await get(`/api/webhooks/${part(name)}/deliveries`, callOptions),
    quarantine: async (callOptions) => await get('/api/quarantine', callOptions),
    latch: async (id, callOptions) => await get(`/api/latches/${part(id)}`, callOptions),
    releaseLatch: async (id, note, callOptions) =>
      await postAndWait(`/api/latches/${part(id)}/release`, { note }, { onTimeout: UNSTORED }, callOptions),
    pause: async (id, request = {}, callOptions) =>
      await postAndWait(
        `/api/executions/${part(id)}/pause`,
        request,
        { onTimeout: UNSTORED_HOLD(id) },
        callOptions,
      ),
    resume: async (id, callOptions) =>
      await postAndWait(
        `/api/executions/${part(id)}/resume`,
        {},
        { onTimeout: UNSTORED_HOLD(id) },
        callOptions,
      ),
    retryExecution: async (id, request = {}, callOptions) =>
      await post(`/api/executions/${part(id)}/retry`, request, callOptions),
    signal: async (id, name, payload, callOptions) =>
      await post(
        `/api/executions/${part(id)}/signals/${part(name)}`,
        payload === undefined ? {} : { payload },
        callOptions,
        { onTimeout: `The signal may have been stored. Look with: belay get ${id}` },
      ),
    tokens: async (callOptions) => await get('/api/tokens', callOptions),
    createToken: async (request, callOptions) =>
      await post('/api/tokens', request, callOptions, {
        onTimeout: `It may have been made, and its secret is lost then. Revoke it: belay token revoke ${request.name}`,
      }),
    revokeToken: async (name, callOptions) =>
      await post(`/api/tokens/${part(name)}/revoke`, {}, callOptions, {
        isRepeatable: true,
        onTimeout: 'It may still be valid. Look with: belay token list',
      }),
    audit: async ({ cursor, limit, signal } = {}) =>
      await get(`/api/audit${buildQuery({ cursor, limit })}`, withSignal(signal)),
    drill: async (workerId, { hostile, ...callOptions } = {}) =>
      await postAndWait(
        '/api/killswitch/drill',
        { ...(workerId === undefined ? {} : { workerId }), ...(hostile === true ? { hostile } : {}) },
        { onTimeout: 'It may still run. Look with: belay drill --last' },
        callOptions,
      ),
    drills: async (callOptions) => await get('/api/killswitch/drill', callOptions),
    armed: async (callOptions) => await post('/api/killswitch/armed', {}, callOptions),
    verifyAudit: async (callOptions) => await get('/api/audit/verify', callOptions),
    workers: async ({ lost, signal } = {}) =>
      await get(`/api/workers${buildQuery({ lost: lost === true ? 1 : undefined })}`, withSignal(signal)),
    async health({ signal } = {}) {
      const { status, body } = await call({
        method: 'GET',
        path: '/health',
        timeoutMs: Math.min(timeoutMs, 5_000),
        alsoOk: [503],
        ...withSignal(signal),
      });
      const fields = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
      const state = typeof fields['state'] === 'string' ? fields['state'] : 'unknown';
      return { ok: status === 200, status, state, body: fields };
    },
  };
}

/** For a stop without any answer: it claims neither that the stop was stored, nor that it was not. */
const UNSTORED_STOP = (id: string): string => `The stop may not have been stored. Look with: belay get ${id}`;
const UNSTORED_HOLD = (id: string): string => `It may not have been stored. Look with: belay get ${id}`;
const REPEATABLE_HOLD = {
  isRepeatable: true,
  onTimeout: 'It may not have been stored. Look with: belay queues',
};
const UNSTORED = 'It may not have been stored. Look with: belay audit, belay latches';

/** Whether a second such order joins the first: an order for an execution or an agent, without a latch. */
function isJoined({ scope, kind = 'kill' }: KillRequest): boolean {
  // Callers without types may omit the scope: the server says what is wrong.
  const type = (scope as typeof scope | undefined)?.type;
  return kind === 'kill' && (type === 'execution' || type === 'agent');
}

function hasKey(spec: unknown): boolean {
  return typeof spec === 'object' && spec !== null && 'idempotencyKey' in spec;
}

/** An id from outside must not change the rest of the path. */
function part(id: string): string {
  if (id === '' || id === '.' || id === '..')
    throw new BelayError('INVALID_REQUEST', `"${id}" is not an id of Belay's.`);
  return encodeURIComponent(id);
}

function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

function checkUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol !== 'http:' && parsed?.protocol !== 'https:')
    throw new BelayError(
      'INVALID_REQUEST',
      `"${url}" is not an http(s) address such as http://127.0.0.1:7070.`,
    );
  return url.replace(/\/+$/, '');
}
