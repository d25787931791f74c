import { useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import type { LifecycleService } from '#libs/lifecycle';
import { Registry } from 'prom-client';
import { measureProcess } from './measure-process';

let life: LifecycleService;
useLife((rig) => ({ life } = rig));

describe('R67 a service’s measurements of itself', () => {
  it('is its scripts, its connections and how late its loop was since the last look', async () => {
    const registry = new Registry();
    const end = measureProcess(registry, life);
    const valueOf = async (line: string): Promise<number> => {
      const text = await registry.metrics();
      return Number(
        text
          .split('\n')
          .find((one) => one.startsWith(`${line} `))
          ?.split(' ')[1],
      );
    };
    const calls = 'belay_valkey_script_calls_total{script="countPools"}';
    const before = (await valueOf(calls)) || 0;
    await life.pools.counts();
    expect(await valueOf(calls)).toBe(before + life.valkey.keys.tags().length);
    expect(await valueOf('belay_valkey_script_seconds_total{script="countPools"}')).toBeGreaterThan(0);
    expect(await valueOf('belay_valkey_connections')).toBeGreaterThan(0);

    const reconnects = await valueOf('belay_valkey_reconnects_total');
    await life.valkey.redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'no').catch(() => undefined);
    await eventually(
      async () => (await valueOf('belay_valkey_reconnects_total')) > reconnects,
      'a reconnect',
    );

    const until = performance.now() + 500;
    // Blocks the event loop: no other code of this process can run.
    while (performance.now() < until);
    await eventually(
      async () => (await valueOf('belay_event_loop_lag_seconds_sum')) >= 0.2,
      'a loop that was late',
    );
    end();
  });
});
