import { BelayError, EXECUTION_MACHINE, isEnded, type ExecutionRecord, type Receipt } from '#libs/contracts';
import { buildQuery } from './build-query';
import type {
  AgentLogs,
  BelayClient,
  CallOptions,
  ClientOptions,
  FollowOptions,
  PauseRequest,
  StopRequest,
} from './client.types';
import { followEvents } from './follow-events';
import { followLogs } from './follow-logs';
import { sendRequest, type Answer, type RequestShape, type Transport } from './send-request';

/** Added to a stop's grace: the kill, its proof and the server's own limit for both. Milliseconds. */
const PROOF_MARGIN_MS = 120_000;
/** Node's fetch gives up on headers after 300 s by itself; ours comes first, with a better sentence. */
const LONGEST_WAIT_MS = 290_000;

/** A client for one orchestrator. It holds no connection of its own: there is nothing to close. */
export function createClient(options: ClientOptions): BelayClient {
  const transport: Transport = {
    url: checkUrl(options.url),
    fetch: options.fetch ?? globalThis.fetch,
    ...(options.token === undefined ? {} : { token: options.token }),
  };
  const timeoutMs = options.timeoutMs ?? 30_000;
  const call = async (shape: Omit<RequestShape, 'timeoutMs'> & { timeoutMs?: number }): Promise<Answer> =>
    await sendRequest(transport, { timeoutMs, ...shape });
  const get = async <T>(path: string, { signal }: CallOptions = {}): Promise<T> =>
    (await call({ method: 'GET', path, ...withSignal(signal) })).body as T;
  const post = async <T>(path: string, body: unknown, { signal }: CallOptions = {}): Promise<T> =>
    (await call({ method: 'POST', path, body, ...withSignal(signal) })).body as T;
  const postAndWait = async <T>(
    path: string,
    body: StopRequest | PauseRequest | { readonly workerId?: string },
    onTimeout: string,
    { signal }: CallOptions = {},
  ): Promise<T> => {
    const waitMs = Math.min(('graceMs' in body ? (body.graceMs ?? 0) : 0) + PROOF_MARGIN_MS, LONGEST_WAIT_MS);
    const shape = { method: 'POST', path, body, onTimeout, ...withSignal(signal) } as const;
    return (await call({ ...shape, timeoutMs: waitMs })).body as T;
  };
  const execution = async (id: string, callOptions?: CallOptions): Promise<ExecutionRecord> =>
    await get(`/api/executions/${part(id)}`, callOptions);
  const events: BelayClient['events'] = (id, followOptions) =>
    followEvents(
      transport,
      `/api/executions/${part(id)}/events`,
      async () => await execution(id),
      followOptions,
    );

  return {
    url: transport.url,

    async createExecution(spec, { start, signal } = {}) {
      const path = `/api/executions${buildQuery({ start: start === false ? false : undefined })}`;
      const answer = await call({ method: 'POST', path, body: spec, ...withSignal(signal) });
      return { execution: answer.body as ExecutionRecord, replayed: answer.status === 200 };
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
    start: async (id, callOptions) => await post(`/api/executions/${part(id)}/start`, {}, callOptions),
    stop: async (id, request = {}, callOptions) =>
      await postAndWait(`/api/executions/${part(id)}/stop`, request, STOP_GOES_ON(id), callOptions),
    stopWithoutWaiting: async (id, request = {}, callOptions) =>
      await post(`/api/executions/${part(id)}/stop?wait=0`, request, callOptions),
    events,
    async waitForEnd(id, followOptions) {
      let record = await execution(id, withSignal(followOptions?.signal));
      while (!isEnded(EXECUTION_MACHINE, record.state)) {
        for await (const event of events(id, followOptions)) void event;
        followOptions?.signal?.throwIfAborted();
        record = await execution(id, withSignal(followOptions?.signal));
      }
      return record;
    },

    createAgent: async (spec, callOptions) => await post('/api/agents', spec, callOptions),
    agents: async ({ state, owner, executionId, cursor, limit, signal } = {}) =>
      await get(`/api/agents${buildQuery({ state, owner, executionId, cursor, limit })}`, withSignal(signal)),
    agent: async (id, callOptions) => await get(`/api/agents/${part(id)}`, callOptions),
    killAgent: async (id, request = {}, callOptions) =>
      await postAndWait(`/api/agents/${part(id)}/kill`, request, KILL_GOES_ON, callOptions),
    logs: ((
      id: string,
      logOptions: (CallOptions & { follow?: false }) | (FollowOptions & { follow: true }) = {},
    ) =>
      logOptions.follow === true
        ? followLogs(transport, `/api/agents/${part(id)}/logs?follow=1`, logOptions)
        : get<AgentLogs>(`/api/agents/${part(id)}/logs`, logOptions)) as BelayClient['logs'],

    kill: async (request, callOptions) =>
      await postAndWait('/api/killswitch', request, KILL_GOES_ON, callOptions),
    killWithoutWaiting: async (request, callOptions) =>
      await post<Receipt>('/api/killswitch?wait=0', request, callOptions),
    planKill: async (request, callOptions) => await post('/api/killswitch?dryRun=1', request, callOptions),
    receipts: async (callOptions) => await get('/api/killswitch', callOptions),
    receipt: async (orderId, callOptions) => await get(`/api/killswitch/${part(orderId)}`, callOptions),

    closeOrder: async (orderId, note, callOptions) =>
      await post(`/api/killswitch/${part(orderId)}/close`, { note }, callOptions),
    engageLatch: async (request, callOptions) => await post('/api/latches', request, callOptions),
    latches: async (callOptions) => await get('/api/latches', callOptions),
    quarantine: async (callOptions) => await get('/api/quarantine', callOptions),
    latch: async (id, callOptions) => await get(`/api/latches/${part(id)}`, callOptions),
    releaseLatch: async (id, note, callOptions) =>
      await postAndWait(`/api/latches/${part(id)}/release`, { note }, KILL_GOES_ON, callOptions),
    pause: async (id, request = {}, callOptions) =>
      await postAndWait(`/api/executions/${part(id)}/pause`, request, STOP_GOES_ON(id), callOptions),
    resume: async (id, callOptions) =>
      await postAndWait(`/api/executions/${part(id)}/resume`, {}, STOP_GOES_ON(id), callOptions),
    retryExecution: async (id, request = {}, callOptions) =>
      await post(`/api/executions/${part(id)}/retry`, request, callOptions),
    audit: async ({ limit, signal } = {}) =>
      await get(`/api/audit${buildQuery({ limit })}`, withSignal(signal)),
    drill: async (workerId, callOptions) =>
      await postAndWait(
        '/api/killswitch/drill',
        workerId === undefined ? {} : { workerId },
        'The drill goes on; look with: belay drill --last',
        callOptions,
      ),
    drills: async (callOptions) => await get('/api/killswitch/drill', callOptions),
    armed: async (callOptions) => await post('/api/killswitch/armed', {}, callOptions),
    verifyAudit: async (callOptions) => await get('/api/audit/verify', callOptions),
    workers: async (callOptions) => await get('/api/workers', callOptions),
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

const STOP_GOES_ON = (id: string): string => `The stop is durable and goes on; look with: belay get ${id}`;
const KILL_GOES_ON = 'What was asked is durable and goes on; look with: belay audit, belay latches';

/** An id from outside must not climb out of its place in the path. */
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
