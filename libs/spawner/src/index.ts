export * from './agent-runner';
export type * from './agent-runner.types';
export * from './agent-slot';
export * from './process';
export * from './pausable-timer';
export * from './spawner.module';
