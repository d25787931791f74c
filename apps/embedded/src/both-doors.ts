/** The exports that both entry points of the package share: `belay` and `belay/nest`. */
export {
  BelayError,
  isBelayError,
  type ErrorCode,
  type ExecutionRecord,
  type Problem,
} from '#libs/contracts';
export type { ServiceLog } from '#libs/service';
export type { BelayNotice, EmbeddedWorker } from './embedded-options';
