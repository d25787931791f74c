export * from './event-patterns';
export * from './read-webhooks';
export { NO_WEBHOOKS } from './retry-delay';
export * from './webhooks';
export type * from './webhooks.types';
