import { SUSPEND_LIMITS, type SuspendRequest } from './signals';
import { NAME_PATTERN } from './spec-validation/fields';
import { MAX_DEPTH } from './spec-validation/check-json';

/** One line an agent may write on file descriptor 3. Anything else is counted and logged, never fatal. */
export type AgentMessage =
  | { readonly type: 'cost'; readonly usd: number; readonly estimated?: true }
  /** Tokens of a language model that the agent used, read and written together. */
  | { readonly type: 'tokens'; readonly count: number }
  | { readonly type: 'progress'; readonly value: unknown }
  | { readonly type: 'event'; readonly name: string; readonly data?: unknown }
  | { readonly type: 'checkpoint'; readonly value: unknown }
  | { readonly type: 'result'; readonly value: unknown }
  /** The agent is about to end with exit code 0, and its node waits for a signal. */
  | ({ readonly type: 'suspend' } & SuspendRequest)
  /** Why the agent is about to end with an exit code other than 0. */
  | { readonly type: 'error'; readonly code: string; readonly message: string };

/** The variable with an agent's cookie. */
export const COOKIE_VARIABLE = 'BELAY_COOKIE';

/**
 * The first line on the stdin of a process that was started before its attempt; the attempt's own input follows. The process
 * writes `<cookie> ready` on fd 3 when it waits, `<cookie> begun` once it has read this line, and `<cookie> late`, with exit
 * code 126, when the line comes too late. A process that ends without `begun` or `late` has not run the attempt, whatever its
 * exit code.
 */
export interface Assignment {
  /** Arguments after those with which the process was started. */
  readonly args: readonly string[];
  /** The variables of the attempt. */
  readonly env: Readonly<Record<string, string>>;
  /** The deadline of its begin, in hundredths of a second since boot, as in /proc/uptime. */
  readonly deadline?: number;
}

/** Longest line accepted on file descriptor 3, bytes. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/** The most that one message may report as spent. US dollars. */
export const MAX_MESSAGE_USD = 1e6;
/** The most tokens that one message may report. */
export const MAX_MESSAGE_TOKENS = 1e9;
/** The kept bytes of an event's data; of longer data only the size is kept. */
export const MAX_EVENT_BYTES = 16 * 1024;
/** Characters of an error's message that are kept. */
export const MAX_ERROR_MESSAGE = 2_000;
/** Longest line of a progress or a checkpoint that is kept; a longer one is dropped and counted. Bytes. */
export const MAX_PROGRESS_BYTES = 16 * 1024;
export const MAX_CHECKPOINT_BYTES = 256 * 1024;

/** Reads one line of fd 3; undefined when it is not a protocol message. Never throws. */
export function parseAgentMessage(line: string): AgentMessage | undefined {
  // JSON.parse accepts any depth; JSON.stringify and Lua's cjson do not.
  if (depthOf(line) > MAX_DEPTH) return undefined;
  let raw: unknown;
  try {
    raw = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return undefined;
  const message = raw as Record<string, unknown>;
  switch (message['type']) {
    case 'cost': {
      const { usd, estimated = false } = message;
      if (typeof usd !== 'number' || usd < 0 || usd > MAX_MESSAGE_USD) return undefined;
      if (typeof estimated !== 'boolean') return undefined;
      return { type: 'cost', usd, ...(estimated ? { estimated } : {}) };
    }
    case 'tokens': {
      const { count } = message;
      const isCount =
        Number.isInteger(count) && (count as number) >= 0 && (count as number) <= MAX_MESSAGE_TOKENS;
      return isCount ? { type: 'tokens', count: count as number } : undefined;
    }
    case 'progress':
      return { type: 'progress', value: message['value'] ?? message['progress'] ?? null };
    case 'event': {
      const name = message['name'];
      if (typeof name !== 'string' || name === '' || name.length > 128 || LONE_SURROGATE.test(name))
        return undefined;
      return { type: 'event', name, ...(message['data'] === undefined ? {} : { data: message['data'] }) };
    }
    case 'checkpoint':
      return { type: 'checkpoint', value: message['value'] ?? message['checkpoint'] ?? null };
    case 'result':
      return { type: 'result', value: message['value'] ?? message['result'] ?? null };
    case 'suspend': {
      const { name, maxAgeMs = SUSPEND_LIMITS.defaultAgeMs } = message;
      if (typeof name !== 'string' || !NAME_PATTERN.test(name)) return undefined;
      const isAge = Number.isInteger(maxAgeMs) && (maxAgeMs as number) >= SUSPEND_LIMITS.minAgeMs;
      if (!isAge || (maxAgeMs as number) > SUSPEND_LIMITS.maxAgeMs) return undefined;
      return { type: 'suspend', name, maxAgeMs: maxAgeMs as number };
    }
    case 'error': {
      const { code = 'EXIT', message: text } = message;
      if (typeof code !== 'string' || !ERROR_CODE.test(code)) return undefined;
      if (typeof text !== 'string' || text === '' || LONE_SURROGATE.test(text)) return undefined;
      return { type: 'error', code, message: cut(text) };
    }
    default:
      return undefined;
  }
}

const ERROR_CODE = /^[A-Z][A-Z0-9_]{0,63}$/;

/** Cuts between characters: half of a surrogate pair could not be stored. */
function cut(text: string): string {
  if (text.length <= MAX_ERROR_MESSAGE) return text;
  return `${text.slice(0, MAX_ERROR_MESSAGE).replace(LONE_SURROGATE, '')}…`;
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/** The nesting depth of a JSON text, without parsing it. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted) {
      if (char === '\\') i++;
      else if (char === '"') quoted = false;
    } else if (char === '"') quoted = true;
    else if (char === '{' || char === '[') deepest = Math.max(deepest, ++depth);
    else if (char === '}' || char === ']') depth--;
  }
  return deepest;
}
