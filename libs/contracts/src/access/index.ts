export * from './caller';
export * from './rates';
export * from './roles';
export * from './routes';
export * from './tokens';
