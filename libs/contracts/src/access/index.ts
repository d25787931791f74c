export * from './caller';
export * from './roles';
export * from './routes';
export * from './tokens';
