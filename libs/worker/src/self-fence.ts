import { Inject, Injectable } from '@nestjs/common';
import type { ServiceLog } from '#libs/service';
import { AgentSlots } from '#libs/spawner';
import { Subject, type Observable } from 'rxjs';
import { LeaseKeeper } from './lease-keeper';
import { stopAll } from './stop-all';
import { WORKER_LOG, WORKER_OPTIONS, type WorkerOptions } from './worker-options';

/** Stops the worker's agents when its lease may be over, or was taken. */
@Injectable()
export class SelfFence {
  private readonly fences = new Subject<number>();
  private readonly contacts = new Subject<void>();
  private readonly losses = new Subject<void>();

  constructor(
    @Inject(LeaseKeeper) lease: LeaseKeeper,
    @Inject(AgentSlots) agents: Pick<AgentSlots, 'stopWhere'>,
    @Inject(WORKER_OPTIONS) { fenceAfterMs, fenceGraceMs }: WorkerOptions,
    @Inject(WORKER_LOG) log: ServiceLog,
  ) {
    lease.silent$.subscribe(() => {
      const count = stopAll(agents, 'graceful', 'worker_lost', fenceGraceMs);
      log.error({ agents: count }, `no contact with Valkey for ${fenceAfterMs} ms; stopping own agents`);
      this.fences.next(count);
    });
    lease.contact$.subscribe(() => {
      log.info('contact with Valkey is back');
      this.contacts.next();
    });
    lease.taken$.subscribe(() => {
      log.error('the lease ran out and was taken; stopping every agent of this worker');
      stopAll(agents, 'immediate', 'worker_lost', fenceGraceMs);
      this.losses.next();
    });
    lease.trouble$.subscribe((error) => log.warn({ err: error }, 'heartbeat failed'));
  }

  /** No heartbeat was acknowledged for `fenceAfterMs`: the worker stops its own agents, so many of them. */
  get fenced$(): Observable<number> {
    return this.fences;
  }

  /** A heartbeat was acknowledged again after that. */
  get contact$(): Observable<void> {
    return this.contacts;
  }

  /** The lease is lost for good and every agent is being killed: this worker must end. May come more than once. */
  get lost$(): Observable<void> {
    return this.losses;
  }
}
