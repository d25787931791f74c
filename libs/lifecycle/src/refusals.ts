import {
  allowedFrom,
  BelayError,
  DENIED,
  InvalidTransitionError,
  latchedError,
  MACHINES,
  NotFoundError,
  StaleEpochError,
  statesOf,
  type Entity,
  type StateMachine,
} from '#libs/contracts';
import type { ScriptReply } from '#libs/valkey';

/**
 * Turns a script's refusal into the error that its caller can act on, and returns an answer as it is. No other code
 * does this.
 */
export function accepted<T>(reply: ScriptReply, entity: Entity, id: string): T {
  switch (reply.refused) {
    case undefined:
      return reply as T;
    case 'NOT_FOUND':
      throw new NotFoundError(entity, id);
    case 'INVALID_TRANSITION': {
      const { from, to } = reply as unknown as { from: string; to: string };
      const machine = MACHINES[entity] as StateMachine<string>;
      if (!statesOf(machine).includes(from))
        throw new BelayError(
          'CORRUPT_RECORD',
          `The record of ${entity} ${id} cannot be read: its state is ${from.slice(0, 80)}.`,
          { details: { entity, id } },
        );
      throw new InvalidTransitionError(entity, id, from, to, allowedFrom(machine, from));
    }
    case 'VERSION_CONFLICT':
      throw new BelayError(
        'VERSION_CONFLICT',
        `${entity} ${id} has changed since it was read. Read it again.`,
        {
          details: { ...reply },
        },
      );
    case 'IDEMPOTENCY_CONFLICT':
      throw new BelayError(
        'IDEMPOTENCY_CONFLICT',
        `The idempotency key is already used by execution ${String(reply['id'])} with another spec; ${id} was not created. Use another key, or the same spec.`,
        { details: { existing: reply['id'], refused: id } },
      );
    case 'LATCHED':
      throw latchedError(reply as never);
    case 'NOT_PAUSED':
      throw new BelayError(
        'INVALID_TRANSITION',
        `${entity} ${id} is ${String(reply['state'])}, not paused: there is nothing to resume.`,
        {
          details: { entity, id, from: reply['state'], to: 'running' },
        },
      );
    case 'NOT_PROVED': {
      const { agentId, count, living } = reply as unknown as {
        agentId: string;
        count: number;
        living: boolean;
      };
      const others = count > 1 ? ` and ${count - 1} more` : '';
      throw new BelayError(
        'NOT_PROVED',
        living
          ? `Agent ${agentId}${others} of ${id} still counts as running. Stop the execution again, then retry it.`
          : `Agent ${agentId}${others} of ${id} was lost and never seen dead: a retry could run it twice. Check its machine, or retry with force.`,
        { details: { id, agentId, count } },
      );
    }
    case 'BUDGET_SPENT': {
      const { spent, of } = reply as unknown as { spent: number; of: 'costMicros' | 'tokens' };
      const isCost = of === 'costMicros';
      throw new BelayError(
        'BUDGET_SPENT',
        `Execution ${id} has spent ${isCost ? `${spent / 1e6} US dollars` : `${spent} tokens`}, which stay counted: give it a budget of more than that.`,
        { details: { id, ...(isCost ? { costUsd: spent / 1e6 } : { tokens: spent }) } },
      );
    }
    case 'QUESTION_CLOSED': {
      const { state, answer, why, by } = reply as Readonly<Record<string, string>>;
      throw new BelayError('QUESTION_CLOSED', `The question ${id} is ${state} (${CLOSED_BY[String(why)]}).`, {
        details: { id, state, answer, why, by },
      });
    }
    case 'QUESTION_CHANGED': {
      const { hash, next } = reply as Readonly<Record<string, string | undefined>>;
      throw new BelayError(
        'QUESTION_CHANGED',
        next === undefined
          ? `The question ${id} has another hash than your answer. Read it again, then answer.`
          : `The question ${id} was asked again in other words, as ${next}. Read that one, then answer.`,
        { details: { id, hash, next } },
      );
    }
    case 'UNKNOWN_CHOICE': {
      const choices = [...(reply['choices'] as string[]), DENIED].join(', ');
      throw new BelayError(
        'INVALID_REQUEST',
        `The request is not valid: choice: must be one of ${choices}.`,
        {
          problems: [{ path: 'choice', code: 'ONE_OF', message: `must be one of ${choices}.` }],
        },
      );
    }
    case 'NOT_RUNNING':
      throw new BelayError(
        'INVALID_TRANSITION',
        `${entity} ${id} is ${String(reply['state'])}: none of its nodes waits for a signal.`,
        { details: { entity, id, from: reply['state'] } },
      );
    case 'TOO_MANY_SIGNALS':
      throw new BelayError(
        'TOO_MANY_SIGNALS',
        `${id} was sent ${String(reply['most'])} signals, and takes no more.`,
        { details: { id, most: reply['most'] } },
      );
    case 'TOO_MANY_QUESTIONS':
      throw new BelayError(
        'TOO_MANY_QUESTIONS',
        `One ${String(reply['of'])} asks at most ${String(reply['most'])} questions; ${id} has asked that many.`,
        { details: { id, most: reply['most'] } },
      );
    case 'STAGING_LOST':
      throw new BelayError(
        'TIMEOUT',
        `Execution ${id} took too long to submit and was not created. Submit it again.`,
      );
    default:
      throw new StaleEpochError(entity, id, { ...reply });
  }
}

/** Why a question is closed, for its next answerer. */
const CLOSED_BY: Readonly<Record<string, string>> = {
  person: 'somebody answered it before',
  deadline: 'nobody answered it in time',
  ended: 'its attempt has ended, or its execution stops',
};
