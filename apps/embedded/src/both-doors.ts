/** The exports that both entry points of the package share: `belayd` and `belayd/nest`. */
export {
  BelayError,
  isBelayError,
  type AgentSpecInput,
  type ErrorCode,
  type ExecutionRecord,
  type ExecutionSpecInput,
  type Problem,
} from '#libs/contracts';
export type { ServiceLog } from '#libs/service';
export type { BelayNotice, EmbeddedWorker } from './embedded-options';
