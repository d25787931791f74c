import type { Role } from './access/roles';
import { isAgentId, type AgentId, type ExecutionId } from './ids';
import type { QuestionState } from './states';

/** `ask_`, then the agent's id without `agt_`, then the number of the agent's question, from 1. */
export type QuestionId = string;

/** The answer that forbids: a person's, or the answer of a question that nobody answered in time. */
export const DENIED = 'denied';

/** Bounds on questions. */
export const QUESTION_LIMITS = {
  /** Questions of one attempt, over its life. */
  perAttempt: 100,
  /** Kept questions of one execution, over its attempts. */
  perExecution: 10_000,
  choices: 20,
  /** Characters. */
  choiceLength: 64,
  textLength: 2_000,
  reasonLength: 1_024,
  /** Question, choices and detail together, as canonical JSON. */
  maxBytes: 16 * 1024,
  minTimeoutMs: 100,
  /** 30 days. */
  maxTimeoutMs: 30 * 24 * 3_600_000,
  defaultTimeoutMs: 3_600_000,
} as const;

/** The choices, unless the asker names some. */
export const DEFAULT_CHOICES: readonly string[] = ['yes', 'no'];

/** Why a question is closed: a person's answer, its deadline, the end of its attempt, or other words under its key. */
export type QuestionEnd = 'person' | 'deadline' | 'ended' | 'changed';

/** A question as it is stored (ADR 0026). */
export interface QuestionRecord {
  readonly id: QuestionId;
  readonly executionId: ExecutionId;
  readonly nodeId: string;
  readonly agentId: AgentId;
  readonly attempt: number;
  /** The fencing number of the asking attempt. */
  readonly epoch: number;
  readonly state: QuestionState;
  readonly question: string;
  readonly choices: readonly string[];
  readonly detail?: unknown;
  /** SHA-256, in hex, of question, choices and detail as canonical JSON. */
  readonly hash: string;
  readonly key?: string;
  /** Present when the asker stands still. */
  readonly whileWaiting?: 'freeze';
  /** The server's clock, like all times here. */
  readonly createdAt: number;
  readonly deadlineAt: number;
  /** The choice, or `denied`, once it is closed. */
  readonly answer?: string;
  readonly why?: QuestionEnd;
  /** The person who closed it, with the role of the token and the HTTP request where known. */
  readonly by?: string;
  readonly role?: Role;
  readonly requestId?: string;
  readonly reason?: string;
  readonly endedAt?: number;
  /** The question that replaced it. */
  readonly next?: QuestionId;
}

const QUESTION = /^ask_(.+)-([1-9][0-9]{0,5})$/;

/** The id of an attempt's n-th question: derived, so that a repeated script stores the same one. */
export function questionIdOf(agentId: AgentId, n: number): QuestionId {
  return `ask_${agentId.slice('agt_'.length)}-${n}`;
}

/** The parts of a question's id; undefined for any other text. */
export function parseQuestionId(
  id: QuestionId,
): { readonly agentId: AgentId; readonly executionId: ExecutionId; readonly n: number } | undefined {
  const [, rest = '', n = ''] = QUESTION.exec(id) ?? [];
  const agentId = `agt_${rest}`;
  if (!isAgentId(agentId)) return undefined;
  return { agentId, executionId: `exe_${rest.split('-')[0]}`, n: Number(n) };
}

/** Whether a text is the id of a question. */
export const isQuestionId = (id: string): boolean => parseQuestionId(id) !== undefined;
