import { BelayError, isBelayError, SPEC_LIMITS, type RecordedError } from '#libs/contracts';
import { readResults, type AgentOutcome, type LifecycleService, type AttemptEvent } from '#libs/lifecycle';
import { NOT_STARTED } from './agent-outcome';
import type { Granted } from './agent-runner.types';
import type { InputFile, ProcessHost } from './process';

/** An agent's stdin: a text, or a file where the text is too long for memory. */
export type AgentInput = string | InputFile;

/** Characters that are kept in memory. */
const IN_MEMORY = 1024 * 1024;

/**
 * Gathers an agent's input: its own, the results of the nodes on which it depends, the messages of earlier attempts. The
 * results are read and written on piece by piece, so that neither the server nor this process ever has all of them in memory.
 * @throws BelayError UPSTREAM_TOO_LARGE as `details.reason`, CORRUPT_RECORD, OUTCOME_UNKNOWN · the file system's errors
 */
export async function gatherInput(
  lifecycle: LifecycleService,
  host: ProcessHost,
  { executionId, attempt }: { readonly executionId: string; readonly attempt: number },
  {
    node,
    isRecovery,
    lastCheckpoint,
    wokenBy,
  }: Pick<Granted, 'node' | 'isRecovery' | 'lastCheckpoint' | 'wokenBy'>,
  earlierEvents: readonly AttemptEvent[],
  isOff: () => boolean,
): Promise<AgentInput> {
  const out = new Gathered(host);
  try {
    await out.add(`{"input":${JSON.stringify(node.input ?? null)},"upstream":{`);
    let bytes = 0;
    let separator = '';
    for await (const piece of readResults(lifecycle.valkey, executionId, node.dependsOn)) {
      if (isOff()) break;
      let text = '';
      for (const [id, json] of piece) {
        text += `${separator}${JSON.stringify(id)}:${json}`;
        separator = ',';
      }
      bytes += Buffer.byteLength(text);
      if (bytes > SPEC_LIMITS.maxUpstreamBytes) throw tooLarge(node.dependsOn.length);
      await out.add(text);
    }
    const rest = {
      attempt,
      isRecovery,
      lastCheckpoint: lastCheckpoint ?? null,
      earlierEvents,
      ...(wokenBy === undefined ? {} : { signal: wokenBy }),
    };
    // The input ends with a newline: `read -r` of a shell fails on a last line without one.
    await out.add(`},${JSON.stringify(rest).slice(1)}\n`);
    return out.input;
  } catch (error) {
    await closeInput(out.input);
    throw error;
  }
}

/** An attempt's input, or why it could not be gathered. */
export type PreparedInput =
  | { readonly ready: AgentInput; readonly error?: never }
  | { readonly ready?: never; readonly error: unknown };

/** Undefined: the attempt is stopped, or its worker stops waiting for the server. Never rejects. */
export async function prepareInput(
  gather: () => Promise<AgentInput | undefined>,
  onError: (error: unknown) => void,
): Promise<PreparedInput | undefined> {
  try {
    const ready = await gather();
    return ready === undefined ? undefined : { ready };
  } catch (error) {
    onError(error);
    return { error };
  }
}

/** Closes an input that no agent was given. */
export async function closeInput(input: AgentInput): Promise<void> {
  if (typeof input !== 'string') await input.close();
}

/** The outcome of an attempt whose input could not be gathered. */
export function inputFailed(error: unknown): AgentOutcome {
  if (isBelayError(error)) {
    const { reason } = error.details;
    const code = typeof reason === 'string' ? reason : error.code;
    return notPrepared({ code, message: error.message });
  }
  const { code = 'OTHER', message = 'this worker is closing' } = (error ??
    {}) as Partial<NodeJS.ErrnoException>;
  const what = `Its input could not be written to the worker's data directory (${code}): ${message}. Is there room on its disk?`;
  return notPrepared({ code: 'INPUT_NOT_WRITTEN', message: what });
}

const notPrepared = (error: RecordedError): AgentOutcome => ({
  state: 'failed',
  reason: 'error',
  error,
  report: NOT_STARTED,
});

function tooLarge(parents: number): BelayError {
  const most = SPEC_LIMITS.maxUpstreamBytes / 1024 / 1024;
  return new BelayError(
    'SPAWN_FAILED',
    `The results of its ${parents} dependencies are more than ${most} MiB together. Store them elsewhere and return references, or gather them in steps.`,
    { details: { reason: 'UPSTREAM_TOO_LARGE' } },
  );
}

/** Keeps a short text in memory, and a longer one in a file. */
class Gathered {
  input: AgentInput = '';

  constructor(private readonly host: ProcessHost) {}

  async add(text: string): Promise<void> {
    if (typeof this.input === 'string') {
      if (this.input.length + text.length <= IN_MEMORY) {
        this.input += text;
        return;
      }
      const file = await this.host.newInput();
      const before = this.input;
      this.input = file;
      await file.write(before);
    }
    await this.input.write(text);
  }
}
