export * from './close-process';
export * from './cleanup-stack';
export * from './process-log';
export * from './run-as-process';
export * from './secret-files';
export * from './service-log';
export * from './stop-signals';
