export * from './agent-queues';
export * from './cron-schedule';
export * from './delivery-queue';
export * from './dispatch.module';
export * from './job-consumer';
export * from './job-relay';
export * from './producers-queue';
