import { hostname } from 'node:os';
import { Inject, Injectable } from '@nestjs/common';
import { LifecycleService } from '#libs/lifecycle';
import type { ServiceLog } from '#libs/service';
import {
  collectProofs,
  describeUnproved,
  PROCESS_HOST,
  reportOfProof,
  type ProcessHost,
  type UnprovedEnd,
} from '#libs/spawner';
import { WORKER_LOG, WORKER_OPTIONS, type WorkerOptions } from './worker-options';

/** At most this many dead workers with an unproved end are remembered as reported. */
const MAX_TOLD = 1_000;

/** Reports the ends of dead workers of this host: the proofs that workers left in the data directory, and ends without one. */
@Injectable()
export class ProofCollector {
  /** Workers whose unproved end was reported. */
  private readonly toldUnproved = new Set<string>();

  constructor(
    @Inject(LifecycleService) private readonly lifecycle: Pick<LifecycleService, 'workers'>,
    @Inject(PROCESS_HOST) private readonly host: Pick<ProcessHost, 'reaped' | 'proofKey'>,
    @Inject(WORKER_OPTIONS) private readonly options: Pick<WorkerOptions, 'workerId' | 'dataDir'>,
    @Inject(WORKER_LOG) private readonly log: ServiceLog,
  ) {}

  /** Reports the workers that this worker reaped at its start and whose end is not proved. */
  tellReaped(): void {
    for (const { workerId: dead, proved, unproved } of this.host.reaped)
      if (!proved && unproved !== undefined)
        this.tellUnproved({ workerId: dead, by: 'reaper', why: describeUnproved(unproved) });
  }

  /** Reports proofs about dead workers that other workers of this host made. */
  async collect(): Promise<void> {
    const { dataDir, workerId } = this.options;
    const { workers } = this.lifecycle;
    await collectProofs(
      dataDir,
      async (proof, seal) => {
        const taken = await workers.saveFiledProof(proof.workerId, reportOfProof(proof), proof.leaders, seal);
        if (taken === 'refused')
          this.log.error(
            { worker: proof.workerId, dataDir },
            'a proof in the data directory was not signed by the worker that it names, and is set aside as a forgery: somebody who can write that directory put it there',
          );
        return taken;
      },
      {
        reaper: { workerId, host: hostname() },
        key: this.host.proofKey,
        checkSeal: async (seal) => workers.checkSeal(seal),
        onUnproved: (end) => this.tellUnproved(end),
      },
    );
  }

  /** Reports once for each worker, since a reaper tries again every few seconds. */
  private tellUnproved({ workerId: dead, by, why }: UnprovedEnd): void {
    const key = `${by} ${dead}`;
    if (this.toldUnproved.has(key)) return;
    if (this.toldUnproved.size >= MAX_TOLD) this.toldUnproved.clear();
    this.toldUnproved.add(key);
    const { dataDir } = this.options;
    this.log.error(
      { worker: dead, by, dataDir },
      `the end of what worker ${dead} had on this host is not proved: ${why}`,
    );
  }
}
