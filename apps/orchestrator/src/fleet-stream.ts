import { selectorMatches, type BelayEvent, type Selector } from '#libs/contracts';
import type { Change } from '#libs/lifecycle';
import { either, reading, RETRY_MS } from './execution-events';
import { encodeCursor } from './fleet-cursor';
import type { FleetView, Reader } from './fleet-events';
import type { SseStream } from './sse';

/** This many events are read together. */
const CHUNK = 16;
/** At most this many executions are remembered whose missing events the client was told of. */
const MOST_TOLD = 1_000;
/** A client learns its position after this many events that it did not ask for. */
const POSITION_EVERY = 500;

/** The events that a client asked for, and may see. */
export interface FleetFilter {
  /** Types, or entities for all of their types. */
  readonly types?: readonly string[];
  readonly states?: readonly string[];
  /** Of the labels of the execution; empty: all. */
  readonly selector: Selector;
}

export interface FleetStreamOptions {
  readonly filter: FleetFilter;
  /** The client's position in each shard. Default: only what comes from now on. */
  readonly after?: readonly string[];
  /** Aborted when the server drains. */
  readonly closing: AbortSignal;
}

/**
 * Streams the events of all executions: of one execution in order, of several in any. Each event's id is the position of the
 * client in all shards. The next changes are looked up only once the client has read the ones before.
 */
export async function streamFleet(
  { reader, leave }: FleetView,
  stream: SseStream,
  options: FleetStreamOptions,
): Promise<void> {
  const { signal, release } = either(stream.gone.signal, options.closing);
  try {
    await follow(reader, stream, { ...options, signal });
    if (options.closing.aborted)
      stream.send('server_shutting_down', { retryAfterMs: RETRY_MS }, undefined, RETRY_MS);
  } finally {
    // Also when the state server is away for longer than a read is repeated: the client comes back with its last id.
    stream.end();
    release();
    leave();
  }
}

async function follow(
  reader: Reader,
  stream: SseStream,
  { filter, after, signal }: FleetStreamOptions & { readonly signal: AbortSignal },
): Promise<void> {
  const positions = [...(after ?? reader.heads)];
  const id = (): string => encodeCursor(positions);
  let passed = 0;
  const told = new Set<string>();
  stream.send('ready', {}, id());
  while (!signal.aborted) {
    const { version } = reader;
    let hasMoved = false;
    for (const [shard, position] of positions.entries()) {
      const batch = await reader.after(shard, position);
      if (batch.missing !== undefined) {
        positions[shard] = batch.position;
        if (!stream.send('reset', { reason: batch.missing }, id())) return;
      }
      hasMoved ||= batch.changes.length > 0 || batch.missing !== undefined;
      for (let at = 0; at < batch.changes.length; at += CHUNK) {
        const chunk = batch.changes.slice(at, at + CHUNK);
        const events = await reading.run(async () => wanted(reader, chunk, filter));
        for (const [i, change] of chunk.entries()) {
          positions[shard] = change.id;
          // A client is told once of all events in a row that an execution keeps no longer.
          const isTold = events[i] === 'trimmed' && told.has(change.executionId);
          const event = isTold ? undefined : events[i];
          passed = event === undefined ? passed + 1 : 0;
          if (event === 'trimmed') {
            if (told.size >= MOST_TOLD) told.clear();
            told.add(change.executionId);
            if (!stream.send('reset', { reason: 'retention' }, id())) return;
          } else if (event !== undefined) {
            told.delete(change.executionId);
            if (!(stream.send('event', event, id()) && (await stream.drained()))) return;
          }
          if (signal.aborted) return;
        }
      }
    }
    if (passed >= POSITION_EVERY) {
      passed = 0;
      if (!stream.send('position', {}, id())) return;
    }
    if (!hasMoved) await reader.moved(version, signal);
  }
}

/** The events of the changes that pass the filter. The others are not read. */
function wanted(
  reader: Reader,
  changes: readonly Change[],
  filter: FleetFilter,
): Promise<(BelayEvent | 'trimmed' | undefined)[]> {
  return Promise.all(
    changes.map(async (change) => {
      if (!isOfKind(change, filter)) return undefined;
      if (filter.selector.length > 0) {
        const labels = await reader.labelsOf(change.executionId);
        // Nothing shows who owns an execution without labels.
        if (labels === undefined || !selectorMatches(filter.selector, labels)) return undefined;
      }
      return reader.content(change);
    }),
  );
}

function isOfKind({ type, to }: Change, { types, states }: FleetFilter): boolean {
  const [entity = ''] = type.split('.');
  if (types !== undefined && !types.includes(type) && !types.includes(entity)) return false;
  return states === undefined || (to !== undefined && states.includes(to));
}
