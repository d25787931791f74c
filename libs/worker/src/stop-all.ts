import type { AgentSlots } from '#libs/spawner';

/** Stops every agent of the worker; returns their number. The node's retry policy decides what follows. */
export function stopAll(
  agents: Pick<AgentSlots, 'stopWhere'>,
  mode: 'graceful' | 'immediate',
  reason: 'worker_lost' | 'server_shutdown',
  graceMs: number,
): number {
  return agents.stopWhere(() => true, { reason, mode, by: 'belay', endsAs: 'failed', graceMs });
}
