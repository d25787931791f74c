/** One line an agent may write on file descriptor 3. Anything else is counted and logged, never fatal. */
export type AgentMessage =
  | { readonly type: 'cost'; readonly usd: number }
  | { readonly type: 'progress'; readonly value: unknown }
  | { readonly type: 'event'; readonly name: string; readonly data?: unknown }
  | { readonly type: 'checkpoint'; readonly value: unknown }
  | { readonly type: 'result'; readonly value: unknown };

/** Longest line accepted on file descriptor 3, bytes. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/** Reads one line of fd 3; undefined when it is not a protocol message. Never throws. */
export function parseAgentMessage(line: string): AgentMessage | undefined {
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
      const usd = message['usd'];
      return typeof usd === 'number' && Number.isFinite(usd) && usd >= 0 ? { type: 'cost', usd } : undefined;
    }
    case 'progress':
      return { type: 'progress', value: message['value'] ?? message['progress'] ?? null };
    case 'event': {
      const name = message['name'];
      if (typeof name !== 'string' || name === '' || name.length > 128) return undefined;
      return { type: 'event', name, ...(message['data'] === undefined ? {} : { data: message['data'] }) };
    }
    case 'checkpoint':
      return { type: 'checkpoint', value: message['value'] ?? message['checkpoint'] ?? null };
    case 'result':
      return { type: 'result', value: message['value'] ?? message['result'] ?? null };
    default:
      return undefined;
  }
}
