import { EXECUTION_MACHINE, isEnded, statesOf, type BelayEvent, type ExecutionState } from '#libs/contracts';
import type { AllEventsQuery, FollowOptions } from './client.types';
import { followFrames } from './follow-frames';
import type { Transport } from './send-request';

/** Whether the event is an execution's last one. */
export function isTerminalEvent(event: BelayEvent): boolean {
  if (event.entity !== 'execution' || event.to === undefined) return false;
  const state = statesOf(EXECUTION_MACHINE).find((name) => name === event.to);
  return state !== undefined && isEnded<ExecutionState>(EXECUTION_MACHINE, state);
}

/** Frames about the stream itself. A frame of any other name carries a BelayEvent. */
const CONTROL_FRAMES = new Set(['ready', 'reset', 'end', 'suspended', 'server_shutting_down', 'dropped']);

/**
 * Every event of one execution, once and in order. Ends after the terminal event: when the server closes, or when a second has
 * brought nothing more (an execution that was retried has an older terminal event, and goes on). Ends also where the server
 * says that there is no more. Any other close may have come before the last events, so it asks for them.
 */
export async function* followEvents(
  transport: Transport,
  path: string,
  options: FollowOptions = {},
  waitMs?: (attempt: number) => number,
): AsyncGenerator<BelayEvent, void> {
  const ending = new AbortController();
  const abort = (): void => ending.abort();
  options.signal?.addEventListener('abort', abort, { once: true });
  if (options.signal?.aborted === true) abort();
  let terminal = false;
  let isAtEnd = false;
  let linger: NodeJS.Timeout | undefined;
  let lastId = options.lastEventId;
  const frames = followFrames(transport, {
    path,
    options: { ...options, signal: ending.signal },
    isOver: () => terminal || isAtEnd,
    ...(waitMs === undefined ? {} : { waitMs }),
  });
  try {
    for await (const frame of frames) {
      if (frame.event === 'reset') options.onReset?.(parseJson(frame.data));
      // The terminal event may be older than the id from which the stream was resumed.
      if (frame.event === 'end') isAtEnd = true;
      if (frame.event === 'suspended') options.onSuspended?.();
      if (CONTROL_FRAMES.has(frame.event)) continue;
      const event = toEvent(frame.data);
      if (event === undefined || isSeen(event.id, lastId)) continue;
      lastId = event.id;
      yield event;
      clearTimeout(linger);
      if (event.entity === 'execution' && event.to !== undefined) terminal = isTerminalEvent(event);
      if (terminal) linger = setTimeout(abort, LINGER_MS);
    }
  } finally {
    clearTimeout(linger);
    options.signal?.removeEventListener('abort', abort);
  }
}

/** The events of all executions, each once; of one execution in order. Does not end by itself. */
export async function* followAllEvents(
  transport: Transport,
  path: string,
  options: Pick<AllEventsQuery, keyof FollowOptions | 'onPosition'> = {},
  waitMs?: (attempt: number) => number,
): AsyncGenerator<BelayEvent, void> {
  const shape = { path, options, isOver: () => false, ...(waitMs === undefined ? {} : { waitMs }) };
  for await (const frame of followFrames(transport, shape)) {
    if (frame.event === 'reset') options.onReset?.(parseJson(frame.data));
    const event = frame.event === 'event' ? toEvent(frame.data) : undefined;
    if (event !== undefined) yield event;
    // Only now has the caller handled the event.
    if (frame.id !== undefined && frame.id !== '') options.onPosition?.(frame.id);
  }
}

const LINGER_MS = 1_000;

/** Stream ids are `milliseconds-counter` and only grow, so an id that is not larger was seen before. */
function isSeen(id: string, last: string | undefined): boolean {
  if (last === undefined) return false;
  const one = STREAM_ID.exec(id);
  const two = STREAM_ID.exec(last);
  if (one === null || two === null) return id === last;
  const byTime = Number(one[1]) - Number(two[1]);
  return byTime < 0 || (byTime === 0 && Number(one[2]) <= Number(two[2]));
}

const STREAM_ID = /^(\d+)-(\d+)$/;

function toEvent(data: string): BelayEvent | undefined {
  const value = parseJson(data) as Partial<BelayEvent> | undefined;
  return typeof value?.type === 'string' && typeof value.entity === 'string' && typeof value.id === 'string'
    ? (value as BelayEvent)
    : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
