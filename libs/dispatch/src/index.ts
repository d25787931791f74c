export * from './agent-queues';
export * from './dispatch.module';
export * from './producers-queue';
