export * from './attendance';
export * from './background.module';
export * from './deletions';
export * from './drill-schedule';
export type { OrchestratorOptions } from './orchestrator-options';
export * from './orchestrator.service';
