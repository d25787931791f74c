import type { Lease } from '#libs/lifecycle';

/**
 * The leases that ran out by this process's monotonic clock: it saw them unrenewed for their whole length. A step of the
 * server's clock ends no lease early, and keeps none for longer. The worker counts from the sending of its renewal, which comes
 * before the first look that sees it, so the worker always fences itself first (docs/architecture.md#leases-and-fencing).
 */
export class LeaseWatch {
  private readonly seen = new Map<string, { readonly endsAt: number; readonly since: number }>();

  /**
   * Takes one look at every lease, and returns those that have run out. A lease of unknown length never does.
   *
   * @param now monotonic; not later than the request for the leases
   */
  look(leases: readonly Lease[], now: number): Lease[] {
    const known = new Set(leases.map(({ workerId }) => workerId));
    for (const workerId of this.seen.keys()) if (!known.has(workerId)) this.seen.delete(workerId);
    return leases.filter(({ workerId, endsAt, lengthMs }) => {
      const before = this.seen.get(workerId);
      if (before?.endsAt === endsAt) return now - before.since >= lengthMs;
      this.seen.set(workerId, { endsAt, since: performance.now() });
      return false;
    });
  }
}
