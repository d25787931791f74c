import { BelayError } from '#libs/contracts';

/** The refusal of a freeze while a stop of the agent is under way: a stop lets the tree run for its grace. */
export const beingStopped = (agentId: string): BelayError =>
  new BelayError('INVALID_TRANSITION', `Agent ${agentId} is being stopped, so it is not frozen.`);
