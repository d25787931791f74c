import { Cluster, Redis } from 'ioredis';
import { until } from '../../../test/support/wait';
import { freePort, startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { settleConnect } from './settle-connect';

const HALF = 8_191;
const LAST = 16_383;

let server: ThrowawayServer;
const clusters: Cluster[] = [];
beforeAll(async () => {
  const args = [
    '--cluster-enabled',
    'yes',
    '--cluster-announce-ip',
    '127.0.0.1',
    '--cluster-port',
    String(await freePort()),
  ];
  server = await startThrowawayServer({ listen: 'tcp', args });
});
afterEach(() => {
  for (const cluster of clusters.splice(0)) cluster.disconnect();
});
afterAll(async () => server.stop());

/** Connects to the only node of a Cluster, and keeps the outcome. */
function connect() {
  const cluster = new Cluster([server.url], { lazyConnect: true, clusterRetryStrategy: () => 200 });
  clusters.push(cluster);
  settleConnect(cluster);
  const seen: string[] = [];
  cluster.on('error', () => undefined);
  cluster.on('close', () => seen.push('close'));
  cluster.connect().then(
    () => seen.push('connected'),
    (error: Error) => seen.push(error.message),
  );
  return { cluster, seen };
}

async function operator(...command: [string, ...(string | number)[]]): Promise<void> {
  const redis = new Redis(server.url);
  try {
    await redis.call(...command);
  } finally {
    redis.disconnect();
  }
}

describe('R25 a connection to a Cluster that is down, as BullMQ makes it before it takes the next job', () => {
  it('is told of once the Cluster is up', async () => {
    await operator('CLUSTER', 'ADDSLOTSRANGE', 0, HALF);
    const { seen } = connect();
    // The node was there, and not ready.
    await until(() => seen.includes('close'), 'the first look at the Cluster');
    expect(seen).not.toContain('connected');
    await operator('CLUSTER', 'ADDSLOTSRANGE', HALF + 1, LAST);
    await until(() => seen.includes('connected'), 'the connection');
  });

  it('is told of when it was ended instead', async () => {
    await operator('CLUSTER', 'DELSLOTSRANGE', 0, HALF);
    const { cluster, seen } = connect();
    await until(() => seen.includes('close'), 'the first look at the Cluster');
    await until(() => cluster.status === 'reconnecting', 'a moment between two tries');
    cluster.disconnect();
    await until(() => seen.includes('Connection is closed.'), 'the end');
    expect(cluster.status).toBe('end');
  });
});
