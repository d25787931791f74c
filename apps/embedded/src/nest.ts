/**
 * Belay for a Nest application: docs/embedding.md. Everything that this entry point, `belayd/nest`, does not export may change.
 */
export { BelayModule, type BelayModuleExtras, type BelayModuleOptions } from './belay.module';
export { BelayHealth, type HealthResult } from './belay-health';
export { AgentHandler, type AgentHandlerHost, type AgentHandlerOptions } from './handlers/agent-handler';
export type { AgentContext, AgentFacts } from './handlers/agent-context';
export type { Answered, Ask } from './handlers/ask';
export type { Step, StepOptions } from './handlers/steps';
export { UnrecoverableError } from './handlers/failure';
export type { HandlersOptions } from './handlers/handler-programs';
export type { KillableProcessorOptions } from './processors/declared-processor';
export { KillableHost, KillableProcessor } from './processors/killable-processor';
export type { KillableJob } from './processors/killable-job';
export type { StandardSchema } from './handlers/standard-schema';
export { BelayRuntime } from './belay-runtime';
export * from './both-doors';
export { Approvals, ApprovalsModule } from '#libs/approvals';
export { AgentQueues, DispatchModule } from '#libs/dispatch';
export { DagExecutor, ExecutionManager, ExecutionsModule } from '#libs/executions';
export { AuditStore, KillswitchModule, KillswitchService, LatchStore, OrderStore } from '#libs/killswitch';
export { AttemptEndPort, LifecycleModule, LifecycleService } from '#libs/lifecycle';
export {
  AgentDoor,
  AgentRunner,
  AgentSlots,
  PROCESS_HOST,
  SpawnerModule,
  StartGate,
  WorkerLease,
} from '#libs/spawner';
export { ChangeFeed, Valkey, ValkeyModule, type ModuleExtras } from '#libs/valkey';
