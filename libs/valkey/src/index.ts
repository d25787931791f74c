export * from './connection';
export * from './keyspace';
export * from './script-runner';
export * from './scripts/generated';
export * from './server-clock';
export * from './shards';
export * from './subscriber';
export * from './valkey.module';
