export * from './agent-runner';
export * from './agent-slot';
export * from './process';
export * from './pausable-timer';
export * from './spawner.module';
