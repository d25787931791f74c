import type { Settings } from '#libs/contracts';
import type { ServiceLog } from '#libs/service';

/** A worker in the host's own process. */
export interface EmbeddedWorker {
  /** Agents it runs at once. Default 8. */
  readonly concurrency?: number;
  /** Pools it takes agents from. Default `default`. */
  readonly pools?: readonly string[];
}

/** The HTTP interface, in the host's own process. */
export interface EmbeddedHttp {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 7070; 0 takes any free one, which `url` then names. */
  readonly port?: number;
  /** Admin token: 16 to 256 characters without blanks. */
  readonly token: string;
}

/** Settings that mean the same as the variables of docs/cli.md do to the programs. Nothing is read from the environment. */
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
  >
>;

/** An event beneath a running Belay that its host may want to act on. Belay itself ends nothing but agents. */
export type BelayNotice =
  /** The private server of `buildInMemoryBelay` ended by itself: its state is gone. Stop, and start a new one. */
  | { readonly kind: 'server-ended' }
  /** No heartbeat was acknowledged for `fenceAfterMs`: the worker is stopping its own agents, that many. */
  | { readonly kind: 'contact-lost'; readonly agents: number }
  | { readonly kind: 'contact-back' }
  /** The worker was given up by the others; it has killed its agents and stops. The services go on. */
  | { readonly kind: 'lease-lost'; readonly workerId: string };

export interface BelayOptions extends Shared {
  /** With `isolation: 'user'`: user ids that no account has, such as `70000-70999`; each running agent gets one. */
  readonly agentUids?: string;
  /** `redis://…`, `rediss://…`, `unix:///path`, `redis+sentinel://…` or `redis+cluster://…` (docs/deployment.md). */
  readonly url: string;
  /** Default: one of 8 agents for the pool `default`. `false`: the fleet's workers run what is submitted here. */
  readonly worker?: false | EmbeddedWorker;
  /** Default: none. */
  readonly http?: EmbeddedHttp;
  /**
   * SIGTERM and SIGINT drain it as they would a program, a third one skips the grace; the listeners go with `stop`. The
   * host decides when its process ends. Default false: no signal is touched.
   */
  readonly handleSignals?: boolean;
  /** Where it logs: a pino logger, or any object with its five methods. Default: nowhere. */
  readonly log?: ServiceLog;
  readonly onNotice?: (notice: BelayNotice) => void;
}

/** As for `buildBelay`; `url` and `dataDir` are its own. */
export type InMemoryBelayOptions = Omit<BelayOptions, 'url' | 'dataDir'>;
