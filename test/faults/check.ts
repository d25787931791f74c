import { checkBounds } from './check-bounds';
import { checkDrains } from './check-drains';
import { checkEnds } from './check-ends';
import { checkEvents } from './check-events';
import { checkKills, checkReceipts } from './check-kills';
import { checkHolds } from './check-holds';
import { checkLives } from './check-lives';
import { checkProduced } from './check-produced';
import { checkReadiness } from './check-readiness';
import { mayBeLost, type History } from './history';

/** A broken promise, and how it was seen. */
export interface Violation {
  readonly rule: Rule;
  readonly what: string;
}

/**
 * `ran`: the seed itself could not be run to its end. `history`: events are gapless, legal, and add up to what is stored.
 * `one-copy`: one live attempt of a node. `proved-dead`: nobody acts after his end was recorded. `accepted`: what was
 * accepted exists and ended. `ends`: what has an end comes to it by itself, and to the one it was meant to have. `obeyed`: after the answer to a kill nothing in its scope runs or starts. `forged`: an order that is in no log ends nobody. `unproved`:
 * what was left with worker and guardian dead is not called dead or forgotten before somebody can have seen it. `receipt`: no
 * confirmed target lives, and only a fault leaves one unconfirmed. `held`: what was seen still stands still. `bound`: deadlines, budgets and pools
 * hold, and what was spent is kept. `drained`: who was asked to end did, and its exit code is true. `drill`: no drill is passed with a
 * canary alive, and nobody is armed who cannot hear. `produced`: one execution for each job, and the job's answer is true. `nothing-left`: no process outlives its fleet.
 */
export type Rule =
  | 'ran'
  | 'history'
  | 'one-copy'
  | 'proved-dead'
  | 'accepted'
  | 'ends'
  | 'obeyed'
  | 'forged'
  | 'unproved'
  | 'receipt'
  | 'held'
  | 'bound'
  | 'drained'
  | 'drill'
  | 'produced'
  | 'nothing-left';

const ENDED = ['completed', 'failed', 'stopped'];

/** Every violation in a history. Pure, and of nothing of the product's but the state tables. */
export function check(history: History): Violation[] {
  return [
    ...history.executions.flatMap((execution) => checkEvents(execution)),
    ...checkAccepted(history),
    ...checkEnds(history),
    ...checkLives(history),
    ...checkKills(history),
    ...checkForged(history),
    ...history.forgotten.map(({ agentId, workerId, how }): Violation => ({
      rule: 'unproved',
      what: `${agentId} ${how}, and nobody can have seen what ${workerId} left`,
    })),
    ...checkReceipts(history),
    ...checkHolds(history),
    ...checkBounds(history),
    ...checkDrains(history),
    ...checkReadiness(history),
    ...checkProduced(history),
    ...history.aliveAfter.map((who): Violation => ({
      rule: 'nothing-left',
      what: `${who} outlived its fleet`,
    })),
  ];
}

/** A forged order is no order: nobody ends for it. */
function checkForged({ executions, forged }: History): Violation[] {
  return executions
    .flatMap(({ agents }) => agents)
    .filter(({ orderId = '' }) => forged.includes(orderId))
    .map(({ id, orderId, state }) => ({
      rule: 'forged',
      what: `${id} is ${state} by ${orderId}, which nobody gave`,
    }));
}

function checkAccepted({ executions, accepted: spans, lossWindows, pruned }: History): Violation[] {
  return executions.flatMap(({ id, accepted, state }): Violation[] => {
    if (state === undefined && mayBeLost(spans[id], lossWindows)) return [];
    if (state === undefined)
      return accepted && !pruned ? [{ rule: 'accepted', what: `${id} was accepted and is not there` }] : [];
    if (ENDED.includes(state)) return [];
    return [{ rule: 'accepted', what: `${id} is ${state} although everything was healed and stopped` }];
  });
}
