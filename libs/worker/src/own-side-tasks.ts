import type { AuditStore, KillResponder, LatchStore } from '#libs/killswitch';
import type { BreakGlassLedger } from './break-glass-ledger';
import type { LeaseKeeper } from './lease-keeper';
import type { OrphanReconciler } from './orphan-reconciler';
import type { PoolConsumers } from './pool-consumers';
import type { ProofCollector } from './proof-collector';
import type { SideTask } from './side-tasks';

/** The side task that compares this worker's attempts with those on record. */
export const OWN_AGENTS = 'own agents';
/** The time between two looks at the attempts on record, and at proofs left on this host. Milliseconds. */
const CHECK_MS = 5_000;

/** The tasks that follow a worker's heartbeat and must not delay one. */
export function ownSideTasks(
  lease: Pick<LeaseKeeper, 'beat'>,
  responder: KillResponder,
  ledger: BreakGlassLedger,
  latches: LatchStore,
  audit: AuditStore,
  intake: PoolConsumers,
  proofs: ProofCollector,
  orphans: OrphanReconciler,
): SideTask[] {
  const followLatches = async (signal: AbortSignal): Promise<void> => {
    const { latchesVersion = 0 } = lease.beat ?? {};
    if (latchesVersion === intake.version) return;
    const engaged = await latches.follow();
    if (!signal.aborted) await intake.apply(latchesVersion, engaged);
  };
  return [
    { name: 'orders', run: async (signal) => lease.beat && responder.noticeHead(lease.beat, signal) },
    { name: 'ledger', run: async () => ledger.tell(latches, audit) },
    { name: 'latches', run: followLatches },
    { name: 'proofs', everyMs: CHECK_MS, run: async () => proofs.collect() },
    { name: OWN_AGENTS, everyMs: CHECK_MS, run: async (signal) => orphans.look(signal) },
  ];
}
