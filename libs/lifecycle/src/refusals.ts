import {
  allowedFrom,
  BelayError,
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

/** Turns a script's refusal into the error its caller can act on; an answer passes through. The one place for it. */
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
          : `Agent ${agentId}${others} of ${id} was lost and never seen dead: a retry could run it twice. See to its machine, or retry with force.`,
        { details: { id, agentId, count } },
      );
    }
    case 'BUDGET_SPENT': {
      const { spent } = reply as unknown as { spent: number };
      throw new BelayError(
        'BUDGET_SPENT',
        `Execution ${id} has spent ${spent / 1e6} US dollars, which stay counted: give it a budget of more than that.`,
        { details: { id, costUsd: spent / 1e6 } },
      );
    }
    case 'STAGING_LOST':
      throw new BelayError(
        'TIMEOUT',
        `Execution ${id} took too long to hand in and was not created. Submit it again.`,
      );
    default:
      throw new StaleEpochError(entity, id, { ...reply });
  }
}
