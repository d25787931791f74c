import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { call, startCluster, startSentinelSet, type ManyServers } from '../support/many-servers';
import { pause } from './clock';
import { Link } from './link';
import type { GroundKind } from './plan-types';
import { send } from './processes';
import { tell, type Place } from './tell';
import { ManyWire, type Wire } from './wire';

/** The hash tag of every order, latch and worker: its node matters most. */
const CONTROL = '{belay:ctl}';
const KEPT: readonly string[] = ['--appendonly', 'yes', '--appendfsync', 'everysec'];

/** The servers of one seed's state: one server, a Sentinel set or a Cluster, and everything that can be done to them. */
export interface State {
  /** Past every link. */
  readonly url: string;
  /** BullMQ's prefix, if it is not the usual one. */
  readonly queuePrefix: string;
  /** Whether a failover may lose the last writes. */
  readonly hasReplicas: boolean;
  /** A primary that comes back, or lives, accepts writes until all clients know that another one took over. */
  readonly writesUntilTold: boolean;
  wire(pid: () => number | undefined): Promise<Wire>;
  /** The address of the present primary, past every link. */
  primary(): Promise<Place>;
  /** SIGKILL to the present primary; it is started again after `forMs`. */
  kill9(forMs: number, signal: AbortSignal): Promise<void>;
  /** Asks another server to take over from a live primary. False: it could not be asked. */
  failover(): Promise<boolean>;
  /** Suspends a replica. */
  pauseReplica(forMs: number, signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

export async function openState(kind: GroundKind, env: NodeJS.ProcessEnv): Promise<State> {
  if (kind === 'server') return openServer(env);
  const many = await (kind === 'sentinel' ? startSentinelSet : startCluster)({ args: KEPT });
  return openMany(kind, many);
}

async function openServer(env: NodeJS.ProcessEnv): Promise<State> {
  const server = await startThrowawayServer({ appendonly: true, env });
  const path = server.socketPath ?? '';
  return {
    url: server.url,
    queuePrefix: 'bull',
    hasReplicas: false,
    writesUntilTold: false,
    wire: async () => Link.open({ path }),
    primary: async () => ({ path }),
    kill9: async (forMs, signal) => killAndRestart(server, forMs, signal),
    failover: async () => false,
    pauseReplica: async () => undefined,
    stop: async () => server.stop(),
  };
}

function openMany(kind: 'sentinel' | 'cluster', many: ManyServers): State {
  const addressOf = (server: ThrowawayServer): Place => ({
    host: '127.0.0.1',
    port: Number(new URL(server.url).port),
  });
  /** A live replica of the primary of the control keys. */
  const replica = async (): Promise<ThrowawayServer | undefined> => {
    const primary = await many.primary(CONTROL);
    const { port } = new URL(primary.url);
    for (const server of many.servers) {
      const info = await call(server, 'INFO', 'replication').catch(() => '');
      if (new RegExp(`role:slave[^]*master_port:${port}\\b`).test(String(info))) return server;
    }
    return undefined;
  };
  return {
    url: many.url,
    queuePrefix: kind === 'cluster' ? '{bull}' : 'bull',
    hasReplicas: true,
    // A Cluster's node first checks who has its slots, and waits for its replica before it gives them away.
    writesUntilTold: kind === 'sentinel',
    wire: async (pid) => new ManyWire(many.url, many.servers, pid),
    primary: async () => addressOf(await many.primary(CONTROL)),
    kill9: async (forMs, signal) => killAndRestart(await many.primary(CONTROL), forMs, signal),
    failover: async () => {
      const next = await replica();
      if (next === undefined) return false;
      if (kind === 'cluster') return tell(addressOf(next), ['CLUSTER', 'FAILOVER']);
      const [host = '', port = ''] = /\/\/([^:]+):(\d+)/.exec(many.url)?.slice(1) ?? [];
      return tell({ host, port: Number(port) }, ['SENTINEL', 'FAILOVER', 'mymaster']);
    },
    pauseReplica: async (forMs, signal) => {
      const pid = (await replica())?.pid;
      send(pid, 'SIGSTOP');
      await pause(forMs, signal);
      send(pid, 'SIGCONT');
    },
    stop: async () => many.stop(),
  };
}

async function killAndRestart(server: ThrowawayServer, forMs: number, signal: AbortSignal): Promise<void> {
  await server.kill9();
  await pause(forMs, signal);
  await server.restart();
}
