export * from './agent-queues';
export * from './calm-worker';
export * from './dispatch.module';
export * from './producers-queue';
