export * from './agent-runner';
export * from './agent-slot';
export * from './process';
export * from './spawner.module';
