import { PRODUCERS_QUEUE } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { Queue } from 'bullmq';
import { eventually } from '../../../test/support/fleet';
import { useLife } from '../../../test/support/life';
import { ProducersQueue } from './producers-queue';

let valkey: Valkey;
useLife((rig) => ({ valkey } = rig));
afterEach(() => jest.restoreAllMocks());

describe('R70 a job that has to wait', () => {
  it.each([
    ['that gave it back is an hour ahead', 3_600_000, 0],
    ['that looks whether its rest is over is an hour behind', 0, -3_600_000],
  ])(
    'comes back although the clock of the machine %s',
    async (_what, giverMs, takerMs) => {
      const now = Date.now.bind(Date);
      let offMs = giverMs;
      jest.spyOn(Date, 'now').mockImplementation(() => now() + offMs);
      const queue = new Queue(PRODUCERS_QUEUE, {
        connection: valkey.connections.create('blocking'),
        prefix: 'bull',
      });
      const producers = new ProducersQueue(valkey, { prefix: 'bull' });
      let taken = 0;
      producers.consume(async () => {
        if (++taken > 1) return { done: {} };
        setTimeout(() => (offMs = takerMs), 100);
        return { waitMs: 400 };
      });
      try {
        await queue.add('execution', {});
        await eventually(() => taken > 1, 'the second taking', 10_000);
        expect(taken).toBe(2);
      } finally {
        await producers.close();
        await queue.close();
      }
    },
    20_000,
  );
});
