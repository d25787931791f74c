import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer } from '#libs/local-server';
import type { BenchOptions, BenchResult } from './measure';
import { bytesLeft } from './support/bytes';

/**
 * Bytes that an ended node leaves on the server, by kind of key: in an execution of its own, and in one of a thousand nodes.
 */
export async function benchBytes({ quick }: BenchOptions): Promise<BenchResult> {
  const alone = await onOwnServer(quick ? 50 : 1_000, 1);
  const together = await onOwnServer(1, quick ? 100 : 1_000);
  const named = (prefix: string, kinds: Readonly<Record<string, number>>): Record<string, number> =>
    Object.fromEntries(Object.entries(kinds).map(([kind, bytes]) => [`${prefix} ${kind}`, bytes]));
  return {
    name: 'bytes',
    figures: {
      perOneNodeExecution: alone.perNode,
      perNode: together.perNode,
      ...named('alone', alone.byKind),
      ...named('of 1,000', together.byKind),
    },
    limits: {},
    ratios: {},
  };
}

async function onOwnServer(executions: number, nodes: number): ReturnType<typeof bytesLeft> {
  const server = await startThrowawayServer();
  const valkey = new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 });
  try {
    const life = new LifecycleService(await valkey.open(), { retentionMs: 3_600_000 });
    return await bytesLeft(life, executions, nodes);
  } finally {
    valkey.close();
    await server.stop();
  }
}
