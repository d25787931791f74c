export * from './lease-keeper';
export * from './orphan-reconciler';
export * from './pool-consumers';
export * from './side-tasks';
export * from './outcome-replay';
