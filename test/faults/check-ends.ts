import type { Violation } from './check';
import type { History } from './history';

/**
 * Once the faults are over, an execution with an end of its own reaches it within its bound, without help; an execution that
 * nothing was to end completes.
 */
export function checkEnds({ executions, unfinished }: History): Violation[] {
  const late = unfinished.map(({ id, state, boundS, why }): Violation => {
    const name = executions.find((one) => one.id === id)?.name;
    return {
      rule: 'ends',
      what: `${id} (${name}) was ${state} ${boundS.toFixed(0)} s after the healing, and nobody had stopped it: ${why}`,
    };
  });
  const missed = executions.flatMap(({ id, name, meant, state, reason, error, nodes }): Violation[] => {
    if (meant !== true || state === undefined || state === 'completed') return [];
    // Reported above already; the campaign's own stop ended it.
    if (unfinished.some((one) => one.id === id)) return [];
    const failed = nodes.filter((node) => node.state === 'failed').map((node) => node.id);
    const why = [reason, error, ...(failed.length === 0 ? [] : [`failed: ${failed.join(', ')}`])];
    const words = why.filter((word) => word !== undefined).join('; ');
    return [{ rule: 'ends', what: `${id} (${name}) was meant to complete, and is ${state} (${words})` }];
  });
  return [...late, ...missed];
}
