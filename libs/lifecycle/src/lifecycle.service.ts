import { Valkey } from '#libs/valkey';
import { AgentStore } from './agent-store';
import { AttendanceStore } from './attendance-store';
import { ChangeReads } from './change-reads';
import { ExecutionStore } from './execution-store';
import { LogStore } from './log-store';
import { PoolStore } from './pool-store';
import { QuestionStore } from './question-store';
import { Removals } from './removals';
import { SlotStore } from './slot-store';
import { ShardScripts, type LifecycleOptions } from './shard-scripts';
import { WorkerStore } from './worker-store';

/**
 * The state machines. Every change of state is one script of this library: compare-and-set on state, epoch and
 * version, the write, the indices, the event. No layer above this library writes state.
 */
export class LifecycleService {
  readonly executions: ExecutionStore;
  readonly agents: AgentStore;
  readonly workers: WorkerStore;
  readonly logs: LogStore;
  readonly attendance: AttendanceStore;
  readonly pools: PoolStore;
  readonly slots: SlotStore;
  readonly questions: QuestionStore;
  readonly removals: Removals;
  readonly changes: ChangeReads;
  readonly shards: ShardScripts;

  constructor(
    readonly valkey: Valkey,
    options: LifecycleOptions,
  ) {
    this.shards = new ShardScripts(valkey, options);
    this.slots = new SlotStore(valkey);
    this.executions = new ExecutionStore(this.shards, this.slots);
    this.agents = new AgentStore(this.shards, this.slots, options.proof);
    this.workers = new WorkerStore(valkey, options.retentionMs);
    this.logs = new LogStore(valkey, options.retentionMs);
    this.attendance = new AttendanceStore(valkey);
    this.pools = new PoolStore(this.shards);
    this.questions = new QuestionStore(this.shards);
    this.removals = new Removals(valkey);
    this.changes = new ChangeReads(this.shards);
  }
}
