import { createHash } from 'node:crypto';
import { canonicalJson, isBelayError, validateAsk, type QuestionRecord } from '#libs/contracts';
import type { Asked } from './ask-people';

/** One call waits for this long: callers give up after a minute. Milliseconds. */
const POLL_MS = 55_000;
/** At most this many calls wait for their answers. */
const MOST_PENDING = 100;
const ALLOW = 'allow';
const PROTOCOL = '2025-06-18';

export interface PermissionOptions {
  /** Asks, or waits for a question that was asked before. Ends with the signal. */
  readonly ask: (
    asked: Asked,
    signal: AbortSignal,
    onStored: (asked: QuestionRecord) => void,
  ) => Promise<QuestionRecord>;
  readonly send: (message: object) => void;
  readonly version: string;
  /** The timeout of each question. Milliseconds. */
  readonly timeoutMs?: number;
  /** Default: 55 s. Milliseconds. */
  readonly pollMs?: number;
}

interface Request {
  readonly id?: unknown;
  readonly method?: unknown;
  readonly params?: Readonly<Record<string, unknown>>;
}

/** A tool's answer, in the form that a coding agent's permission prompt expects. */
type Permission =
  | { readonly behavior: 'allow'; readonly updatedInput: unknown }
  | { readonly behavior: 'deny'; readonly message: string };

const TOOL = {
  name: 'approve',
  description:
    'Asks a person whether a tool may be used, and waits for the answer. Without an answer the tool is denied.',
  inputSchema: {
    type: 'object',
    properties: {
      tool_name: { type: 'string' },
      input: { type: 'object' },
      tool_use_id: { type: 'string' },
    },
    required: ['tool_name', 'input'],
  },
};

/**
 * An MCP server with one tool, for `--permission-prompt-tool` of coding agents: JSON-RPC, one message a line. A call whose
 * question is still open after a while is denied for now; the same call again waits for the same question. Every failure is a
 * denial.
 */
export class PermissionServer {
  /** Open questions, and closed ones whose answer no call has got yet, by their subject. */
  private readonly pending = new Map<string, string>();

  constructor(private readonly options: PermissionOptions) {}

  /** Takes one line of stdin. Never rejects. */
  async take(line: string): Promise<void> {
    let request: Request | null;
    try {
      request = JSON.parse(line) as Request | null;
    } catch {
      return this.fail(null, -32_700, 'The line is not JSON.');
    }
    const { id, method, params = {} } = request ?? {};
    // A notification needs no answer, and none of them has an effect here.
    if (id === undefined) return;
    const result = await this.resultOf(method, params);
    if (result === undefined) return this.fail(id, -32_601, `There is no method ${JSON.stringify(method)}.`);
    this.options.send({ jsonrpc: '2.0', id, result });
  }

  private async resultOf(
    method: unknown,
    params: NonNullable<Request['params']>,
  ): Promise<object | undefined> {
    switch (method) {
      case 'initialize':
        return {
          protocolVersion:
            typeof params['protocolVersion'] === 'string' ? params['protocolVersion'] : PROTOCOL,
          capabilities: { tools: {} },
          serverInfo: { name: 'belay', version: this.options.version },
        };
      case 'ping':
        return {};
      case 'tools/list':
        return { tools: [TOOL] };
      case 'tools/call':
        return { content: [{ type: 'text', text: JSON.stringify(await this.permission(params)) }] };
      default:
        return undefined;
    }
  }

  private fail(id: unknown, code: number, message: string): void {
    this.options.send({ jsonrpc: '2.0', id, error: { code, message } });
  }

  private async permission({ name, arguments: given }: NonNullable<Request['params']>): Promise<Permission> {
    const { tool_name: tool, input } = (given ?? {}) as { tool_name?: unknown; input?: unknown };
    if (name !== TOOL.name || typeof tool !== 'string' || tool === '')
      return deny('The call must be of the tool approve, with tool_name and input.');
    try {
      const { answer, reason } = await this.answerTo(tool, input);
      if (answer === ALLOW) return { behavior: 'allow', updatedInput: input };
      return deny(reason ?? 'It was denied: by a person, or because nobody answered in time.');
    } catch (error) {
      if (error instanceof Unanswered) return deny(error.message);
      return deny(isBelayError(error) ? error.message : 'Nobody could be asked.');
    }
  }

  private async answerTo(tool: string, input: unknown): Promise<QuestionRecord> {
    const { ask, timeoutMs, pollMs = POLL_MS } = this.options;
    const checked = validateAsk({
      question: `May it use the tool ${tool}?`,
      choices: [ALLOW],
      detail: { tool_name: tool, input },
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    const about = createHash('sha256').update(canonicalJson(checked.detail)).digest('hex');
    let id = this.pending.get(about);
    if (id === undefined && this.pending.size === MOST_PENDING)
      throw new Unanswered('Too many tools wait for an answer. Call this one again later.');
    const patience = AbortSignal.timeout(pollMs);
    try {
      const closed = await ask(id === undefined ? { ask: checked } : { id }, patience, (stored) => {
        ({ id } = stored);
        this.pending.set(about, stored.id);
      });
      this.pending.delete(about);
      return closed;
    } catch (error) {
      if (patience.aborted && id !== undefined)
        throw new Unanswered(
          `Nobody has answered ${id} yet. Call the same tool again with the same input to go on waiting.`,
        );
      this.pending.delete(about);
      throw error;
    }
  }
}

/** No answer yet. */
class Unanswered extends Error {}

const deny = (message: string): Permission => ({ behavior: 'deny', message });
