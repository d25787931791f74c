export * from './agent-store';
export * from './execution-store';
export * from './lifecycle.module';
export * from './lifecycle.service';
export * from './said-before';
export type { LifecycleOptions } from './scope';
export * from './worker-store';
export * from './service-run';
export * from './phases';
