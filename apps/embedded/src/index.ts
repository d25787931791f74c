/**
 * Belay as a library: docs/embedding.md. The door of the package; what it does not name may change.
 */
export { buildBelay, buildInMemoryBelay, type Belay, type StopResult } from './belay';
export type {
  BelayNotice,
  BelayOptions,
  EmbeddedHttp,
  EmbeddedWorker,
  InMemoryBelayOptions,
} from './embedded-options';
export {
  BelayError,
  isBelayError,
  type ErrorCode,
  type ExecutionRecord,
  type Problem,
} from '#libs/contracts';
export type { ServiceLog } from '#libs/service';
