export * from './attempt-ends';
export * from './dag-executor';
export * from './execution-manager';
export * from './executions.module';
export * from './janitor';
export * from './retry-policy';
export * from './spec-file';
export * from './producer-intake';
