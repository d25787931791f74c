export * from './agent-queues';
export * from './dispatch.module';
