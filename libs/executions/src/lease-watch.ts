import type { Lease } from '#libs/lifecycle';

/**
 * The leases that ran out by this process's monotonic clock: those it saw unrenewed for their whole length. A server
 * whose clock steps forward expires nobody, and one whose clock steps back keeps nobody for longer. The worker counts from the
 * sending of its renewal, which comes before the first look that sees it, so its own fence always comes first.
 */
export class LeaseWatch {
  private readonly seen = new Map<string, { readonly endsAt: number; readonly since: number }>();

  /**
   * Takes one look at every lease, and tells which have run out. A lease whose length is not known never does.
   *
   * @param now monotonic; not later than the reading of the leases was asked for
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
