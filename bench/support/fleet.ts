import { join, resolve } from 'node:path';
import { createClient, type BelayClient } from '#libs/client';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer } from '#libs/local-server';
import { endChild, makeTempDir, startChild, type Child } from './child';

const TOKEN = 'bench-token-of-a-throwaway-fleet';
const PROGRAMS = resolve(__dirname, '../../programs');

/** A real fleet of processes on a server of its own: one orchestrator and some workers. */
export interface BenchFleet {
  readonly url: string;
  readonly valkey: Valkey;
  readonly client: BelayClient;
  addWorker(): Promise<Child>;
  stop(): Promise<void>;
}

/** @param concurrency of each worker. */
export async function startBenchFleet(
  concurrency: number,
  workers = 2,
  settings: Record<string, string> = {},
): Promise<BenchFleet> {
  const server = await startThrowawayServer();
  const dir = makeTempDir();
  const shards = 2;
  const valkey = new Valkey({ url: server.url, keyPrefix: 'belay', shards });
  const env = {
    BELAY_VALKEY_URL: server.url,
    BELAY_DATA_DIR: dir.path,
    BELAY_TOKEN: TOKEN,
    BELAY_HTTP_PORT: '0',
    BELAY_SHARDS: String(shards),
    BELAY_WORKER_CONCURRENCY: String(concurrency),
    BELAY_STOP_TIMEOUT_MS: '2000',
    BELAY_LOG_LEVEL: 'error',
    ...settings,
  };
  const children: Child[] = [];
  const addWorker = async (): Promise<Child> => {
    const worker = await startChild(join(PROGRAMS, 'worker.js'), [], env);
    children.push(worker);
    return worker;
  };
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(endChild));
    valkey.close();
    await server.stop();
    dir.remove();
  };
  try {
    await valkey.open();
    const orchestrator = await startChild<{ url: string }>(join(PROGRAMS, 'orchestrator.js'), [], env);
    children.push(orchestrator);
    for (let i = 0; i < workers; i++) await addWorker();
    const client = createClient({ url: orchestrator.ready.url, token: TOKEN });
    return { url: server.url, valkey, client, addWorker, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
