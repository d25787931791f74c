import { dirname } from 'node:path';
import { breakGlassFallback, folderProblem } from '#libs/client';
import type { LocalKillRequest, Scope, ScopeWarning } from '#libs/contracts';
import type { LocalReceipt } from '#libs/killswitch';
import { describeScope } from '../receipt/describe-scope';
import { askWorker, SilentWorkerError } from './ask-worker';
import { findLocalAgents, type LocalAgent } from './local-agents';
import type { LocalWorker } from './local-workers';

/** A worker of this machine that gave no receipt. */
export interface UnreachedWorker {
  readonly workerId: string;
  /** As a phrase. */
  readonly why: string;
  /** The pid of its process, while that lives. */
  readonly pid?: number;
  /** The worker's agents that are seen to run after the other workers have answered. */
  readonly agents: readonly LocalAgent[];
}

/** The outcome of a kill without the server. */
export interface LocalKill {
  /** True only when every worker of this machine that the scope may reach answered with every target confirmed. */
  readonly complete: boolean;
  readonly scope: Scope;
  readonly by: string;
  readonly workers: readonly LocalReceipt[];
  readonly unreached: readonly UnreachedWorker[];
  /** Present when no worker had an agent with those labels or of that pool: the name may be misspelt. */
  readonly warning?: ScopeWarning;
}

/**
 * The workers that a scope may reach. A worker that is asked for any worker takes itself for the target, so a scope that names
 * another worker must not be sent to it.
 */
export function workersInScope(workers: readonly LocalWorker[], scope: Scope): LocalWorker[] {
  return workers.filter(({ id }) => scope.type !== 'worker' || scope.workerId === id);
}

/** Asks all of them at once, and resolves when each has answered or was found silent. @throws the signal's reason */
export async function killLocally(
  workers: readonly LocalWorker[],
  request: LocalKillRequest,
  options: { readonly signal: AbortSignal; readonly awakeMs?: number; readonly fallback?: string },
): Promise<LocalKill> {
  const { scope, by } = request;
  const receipts: LocalReceipt[] = [];
  const unreached: Omit<UnreachedWorker, 'agents'>[] = [];
  const ask = async ({ id, socket, isOpen, pid }: LocalWorker): Promise<void> => {
    const missed = { workerId: id, ...(pid === undefined ? {} : { pid }) };
    try {
      requireTrusted(socket, options.fallback ?? breakGlassFallback());
      const answer = await askWorker(socket, request, options);
      if (isReceipt(answer)) receipts.push(answer);
      else unreached.push({ ...missed, why: `it refused: ${detailOf(answer)}` });
    } catch (error) {
      options.signal.throwIfAborted();
      // The worker is gone and has no record, so its trees were seen dead when it ended.
      if (isOpen || !isAbsent(error)) unreached.push({ ...missed, why: reasonOf(error) });
    }
  };
  await Promise.all(workers.map(ask));
  const left = findLocalAgents(
    unreached.map(({ workerId }) => workerId),
    scope,
  );
  return {
    complete: unreached.length === 0 && receipts.every(({ complete }) => complete),
    scope,
    by,
    workers: receipts.toSorted((a, b) => (a.workerId < b.workerId ? -1 : 1)),
    unreached: unreached
      .toSorted((a, b) => (a.workerId < b.workerId ? -1 : 1))
      .map((one) => ({ ...one, agents: left.filter(({ workerId }) => workerId === one.workerId) })),
    ...warningOf(scope, receipts),
  };
}

/** A person types labels and pools; without the server nobody knows which of them exist. */
function warningOf(scope: Scope, receipts: readonly LocalReceipt[]): { warning?: ScopeWarning } {
  const isNamed = scope.type === 'selector' || scope.type === 'pool';
  if (!isNamed || receipts.some(({ targets }) => targets.length > 0)) return {};
  const message =
    `No worker of this machine runs an agent in ${describeScope(scope)}. A misspelt name ` +
    'gives this answer too. To end every agent of this machine: belay kill --local --all';
  return { warning: { code: 'NOTHING_MATCHED', message } };
}

/** @throws an error that says why another user may answer there */
function requireTrusted(socket: string, fallback: string): void {
  const folder = dirname(socket);
  const problem = folder === fallback ? folderProblem(folder) : undefined;
  if (problem !== undefined) throw new Error(`its socket in ${folder} is not trusted: ${problem}`);
}

function isReceipt(answer: unknown): answer is LocalReceipt {
  const { complete, targets } = (answer ?? {}) as { complete?: unknown; targets?: unknown };
  return typeof complete === 'boolean' && Array.isArray(targets);
}

function detailOf(answer: unknown): string {
  const { detail } = (answer ?? {}) as { detail?: unknown };
  return typeof detail === 'string' ? detail : 'its answer is no receipt';
}

function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}

function reasonOf(error: unknown): string {
  if (error instanceof SilentWorkerError)
    return `${error.message}: it is stopped or hangs; it carries out the kill when it wakes`;
  const { code = '' } = error as NodeJS.ErrnoException;
  return PHRASES[code] ?? (error instanceof Error ? error.message : String(error));
}

const PHRASES: Readonly<Record<string, string>> = {
  ENOENT: 'it has no socket',
  ECONNREFUSED: 'nobody listens on its socket',
  EACCES: 'its socket is for another user',
  EPERM: 'its socket is for another user',
  ECONNRESET: 'it ended before it answered',
  EPIPE: 'it ended before it answered',
};
