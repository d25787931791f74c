export * from './give-back';
export * from './run-as-process';
export * from './service-log';
export * from './stop-signals';
