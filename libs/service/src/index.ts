export * from './close-process';
export * from './give-back';
export * from './process-log';
export * from './run-as-process';
export * from './secret-files';
export * from './service-log';
export * from './stop-signals';
