import type { Settings } from '#libs/contracts';
import type { ServiceLog } from '#libs/service';

/** A worker in the host's own process. */
export interface EmbeddedWorker {
  /** Agents at a time. Default 8. */
  readonly concurrency?: number;
  /** The pools from which it takes agents. Default `default`. */
  readonly pools?: readonly string[];
}

/** The HTTP interface, in the host's own process. */
export interface EmbeddedHttp {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 7070; 0 takes any free port, which `url` then has. */
  readonly port?: number;
  /** Admin token: 16 to 256 characters without blanks. */
  readonly token: string;
}

/** Settings with the meaning of the variables in docs/cli.md. Nothing is read from the environment. */
type Shared = Partial<
  Pick<
    Settings,
    | 'dataDir'
    | 'workDir'
    | 'keyPrefix'
    | 'queuePrefix'
    | 'shards'
    | 'graceMs'
    | 'stopTimeoutMs'
    | 'leaseTtlMs'
    | 'heartbeatMs'
    | 'fenceAfterMs'
    | 'proofLimitMs'
    | 'proof'
    | 'retentionMs'
    | 'maxEnded'
    | 'maxStateMb'
    | 'containment'
    | 'isolation'
    | 'cgroupParent'
    | 'native'
    | 'otlpEndpoint'
    | 'webhooksFile'
  >
>;

/** An event in a running Belay on which its host may want to act. Belay itself ends nothing but agents. */
export type BelayNotice =
  /** The private server of `buildInMemoryBelay` ended by itself: its state is gone. Stop this Belay, and start a new one. */
  | { readonly kind: 'server-ended' }
  /** No heartbeat was acknowledged for `fenceAfterMs`: the worker is stopping its own agents, `agents` of them. */
  | { readonly kind: 'contact-lost'; readonly agents: number }
  | { readonly kind: 'contact-back' }
  /** Another process ended the worker's lease; the worker has killed its agents and stops. The services go on. */
  | { readonly kind: 'lease-lost'; readonly workerId: string };

export interface BelayOptions extends Shared {
  /** With `isolation: 'user'`: user ids that no account has, such as `70000-70999`; each running agent gets one. */
  readonly agentUids?: string;
  /** `redis://…`, `rediss://…`, `unix:///path`, `redis+sentinel://…` or `redis+cluster://…` (docs/deployment.md). */
  readonly url: string;
  /**
   * Default: a worker for 8 agents of the pool `default`. `false`: the fleet's workers run the executions that are submitted
   * here.
   */
  readonly worker?: false | EmbeddedWorker;
  /** Default: none. */
  readonly http?: EmbeddedHttp;
  /**
   * Whether SIGTERM and SIGINT drain it, as they drain a program; a third one skips the grace. `stop` removes the listeners.
   * The host decides when its process ends. Default false: no signal is touched.
   */
  readonly handleSignals?: boolean;
  /** The receiver of its log: a pino logger, or any object with its five methods. Default: none. */
  readonly log?: ServiceLog;
  readonly onNotice?: (notice: BelayNotice) => void;
}

/** As for `buildBelay`; `url` and `dataDir` are private. */
export type InMemoryBelayOptions = Omit<BelayOptions, 'url' | 'dataDir'>;
