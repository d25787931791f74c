import { PRODUCERS_QUEUE } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import type { QueueOptions } from './agent-queues';
import { JobConsumer } from './job-consumer';

const JOBS_AT_ONCE = 1_000;

/** The queue of producers in any language, whose jobs are specs. */
export class ProducersQueue extends JobConsumer {
  constructor(valkey: Valkey, { prefix }: QueueOptions) {
    super(valkey, { prefix, queue: PRODUCERS_QUEUE, concurrency: JOBS_AT_ONCE });
  }
}
