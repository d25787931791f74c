import type { Role } from './access/roles';
import { isAgentId, type AgentId, type ExecutionId } from './ids';
import type { QuestionState } from './states';

/** `ask_`, its agent's id without `agt_`, and which of the agent's questions it is, counted from 1. */
export type QuestionId = string;

/** The answer that lets nothing happen: a person's, or that of a question that nobody answered in time. */
export const DENIED = 'denied';

/** Bounds of what agents ask. */
export const QUESTION_LIMITS = {
  /** Of one attempt, over its life. */
  perAttempt: 100,
  /** Kept of one execution, over its attempts. */
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

/** The choices where the asker names none. */
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
  /** The fencing number of the attempt that asked. */
  readonly epoch: number;
  readonly state: QuestionState;
  readonly question: string;
  readonly choices: readonly string[];
  readonly detail?: unknown;
  /** SHA-256, in hex, of question, choices and detail as canonical JSON. */
  readonly hash: string;
  readonly key?: string;
  /** Its asker stands still. */
  readonly whileWaiting?: 'freeze';
  /** Valkey's clock, as all times here. */
  readonly createdAt: number;
  readonly deadlineAt: number;
  /** Once it is closed: the choice, or `denied`. */
  readonly answer?: string;
  readonly why?: QuestionEnd;
  /** Who closed it, with the role of the token and the HTTP request where those are known. */
  readonly by?: string;
  readonly role?: Role;
  readonly requestId?: string;
  readonly reason?: string;
  readonly endedAt?: number;
  /** The question that took its place. */
  readonly next?: QuestionId;
}

const QUESTION = /^ask_(.+)-([1-9][0-9]{0,5})$/;

/** The id of an attempt's n-th question: derived, so that a repeated script stores the same one. */
export function questionIdOf(agentId: AgentId, n: number): QuestionId {
  return `ask_${agentId.slice('agt_'.length)}-${n}`;
}

/** The parts of a question's id; undefined when it is not one. */
export function parseQuestionId(
  id: QuestionId,
): { readonly agentId: AgentId; readonly executionId: ExecutionId; readonly n: number } | undefined {
  const [, rest = '', n = ''] = QUESTION.exec(id) ?? [];
  const agentId = `agt_${rest}`;
  if (!isAgentId(agentId)) return undefined;
  return { agentId, executionId: `exe_${rest.split('-')[0]}`, n: Number(n) };
}

/** Whether it is the id of a question. */
export const isQuestionId = (id: string): boolean => parseQuestionId(id) !== undefined;
