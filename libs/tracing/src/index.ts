export * from './measure-tracing';
export * from './tracing';
