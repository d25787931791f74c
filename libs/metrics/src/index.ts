export * from './measure-process';
