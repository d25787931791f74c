export * from './agent-queues';
export * from './cron-schedule';
export * from './dispatch.module';
export * from './producers-queue';
