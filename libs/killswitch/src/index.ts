export * from './audit-store';
export * from './control-settings';
export * from './kill-responder';
export * from './killswitch.module';
export * from './killswitch.service';
export * from './latch-store';
export * from './order-store';
export * from './scope-resolver';
