import type { SeenProcess } from '#libs/contracts';

/**
 * Why the end of a worker's trees is not proved, by the last look. `alive`: these processes run. `populated`: the cgroup has
 * processes that no pass found. `unsound`: the pass may have missed one. `error`: the system refused an answer. `record`: the
 * worker's record cannot be believed.
 */
export type Unproved = { readonly rounds: number; readonly afterMs: number } & Seen;

/** Why one look gave no proof. */
export type Seen =
  | { readonly why: 'alive'; readonly processes: readonly SeenProcess[] }
  | { readonly why: 'populated' }
  | { readonly why: 'unsound' }
  | { readonly why: 'error'; readonly code: string }
  | { readonly why: 'record'; readonly problem: string };

/** A text for a log and for people. */
export function describeUnproved(unproved: Unproved): string {
  const { rounds, afterMs } = unproved;
  return `${describeSeen(unproved)} (${rounds} rounds in ${Math.round(afterMs)} ms)`;
}

function describeSeen(seen: Seen): string {
  switch (seen.why) {
    case 'alive':
      return `alive: ${seen.processes.map(({ pid, command = '?' }) => `${pid} (${command})`).join(', ')}`;
    case 'populated':
      return 'the cgroup is populated, but no pass over /proc found its processes';
    case 'unsound':
      return 'processes came and went faster than a pass over /proc could read them';
    case 'error':
      return `the system refused to show them: ${seen.code}`;
    case 'record':
      return seen.problem;
  }
}
