export * from './kill-responder';
export * from './killswitch.module';
export * from './killswitch.service';
export * from './order-store';
