import type { Examples, Frames } from './operation.types';

/** Specs as people submit them. */
export const EXECUTION: Examples = {
  short: { name: 'hello', nodes: [{ id: 'a', run: { command: ['echo', 'hi'] } }] },
  long: {
    name: 'nightly',
    labels: { team: 'data' },
    nodes: [{ id: 'a', run: { command: ['sleep', '600'] }, timeoutMs: 900_000 }],
  },
};

/** One agent. */
export const AGENT: Examples = { sleep: { run: { command: ['sleep', '60'] }, timeoutMs: 30_000 } };

const END_OF_ALL: Frames = {
  dropped: { says: 'This client has read nothing for too long and is cut off.', data: { reason: 'text' } },
  unauthorized: { says: 'The token was revoked or has expired.', data: { reason: 'text' } },
  server_shutting_down: { says: 'Come back with Last-Event-ID.', data: { retryAfterMs: 'number' } },
};

/** The frames of one execution's events. */
export const EXECUTION_FRAMES: Frames = {
  ready: { says: 'The present state; sent first.', data: { executionId: 'text', state: 'text' } },
  event: { says: 'One change; the id of the frame is its id.', data: 'BelayEvent' },
  reset: { says: 'Events are missing here.', data: { snapshot: 'ExecutionRecord', oldest: 'text' } },
  end: { says: 'The execution has ended and everything was sent.', data: { state: 'text' } },
  suspended: { says: 'No node runs until a signal comes.', data: { state: 'text' } },
  ...END_OF_ALL,
};

/** The frames of the events of all executions. */
export const FLEET_FRAMES: Frames = {
  ready: { says: 'Its id is the position at which the stream begins.', data: {} },
  event: { says: 'One change; the id of the frame is the position.', data: 'BelayEvent' },
  reset: { says: 'Events are missing here: retention, or failover.', data: { reason: 'text' } },
  position: { says: 'A new id, after many events that the query leaves out.', data: {} },
  ...END_OF_ALL,
};

/** The frames of an agent's output. */
export const LOG_FRAMES: Frames = {
  log: { says: 'One line.', data: 'LogLine' },
  end: { says: 'The output has ended.', data: { file: 'LogFile?', skipped: 'OutputSize?' } },
  ...END_OF_ALL,
};
