export { parseServerUrl, type ServerAddress } from './ask-server';
export { ensureServer } from './ensure-server';
export { freePort } from './free-port';
export { withoutPassword } from './given-server';
export { lookAtLocalServer, type LocalServerLook } from './running-server';
export { startThrowawayServer, resolveServerBinary } from './throwaway-server';
export type * from './types';
