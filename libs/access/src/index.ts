export * from './access.module';
export * from './ownership';
export * from './token-store';
