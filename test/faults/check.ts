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
 * The kinds of broken promises:
 * - `ran`: the seed itself could not be run to its end.
 * - `history`: events have no gap, are legal, and add up to the stored state.
 * - `one-copy`: one live attempt of a node.
 * - `proved-dead`: no process acts after its end was recorded.
 * - `accepted`: every accepted execution exists and ended.
 * - `ends`: an execution with an end of its own reaches it by itself, and the intended one.
 * - `obeyed`: after the answer to a kill nothing in its scope runs or starts.
 * - `forged`: an order that is in no log ends no agent.
 * - `unproved`: agents left by a dead worker and guardian are not called dead or forgotten before a process can have seen them.
 * - `receipt`: no confirmed target lives, and only a fault leaves one unconfirmed.
 * - `held`: a process that was seen frozen stays so.
 * - `bound`: deadlines, budgets and pools are kept, and spent money stays counted.
 * - `drained`: a process that was asked to end did, and its exit code is true.
 * - `drill`: no drill passes with a live canary, and no worker that cannot hear is armed.
 * - `produced`: one execution for each job, and the job's answer is true.
 * - `nothing-left`: no process outlives its fleet.
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

/** Every violation in a history. Pure; of the product it uses only the state tables. */
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

/** A forged order ends no agent. */
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
