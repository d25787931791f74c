/**
 * The process layer: starts commands as process trees and ends those trees with proof (docs/process-signals.md). Plain Node: no
 * Valkey, no Nest.
 *
 * Invariants: no signal without a check of the identity (pid and start time) directly before; no "dead" without evidence; every
 * wait is bounded; nothing is kept on the machine after `ended` of a proved tree.
 */
export { createProcessHost } from './process-host';
export { beingStopped } from './being-stopped';
export { namespaceMissing } from './namespace';
export { nativeState, type NativeState } from './native-state';
export { reapDeadWorkers } from './reap-dead-workers';
export { shieldProcess } from './shield-process';
export { describeUnproved, type Unproved } from './unproved';
export {
  collectProofs,
  forgetProof,
  reportOfProof,
  type UnprovedEnd,
  type WorkerProof,
} from './worker-proof';
export type { CheckSeal, ProofSeal, SealVerdict } from './seal';
export type { InputFile } from './input-file';
export type * from './process-host.types';
export { Bucket, type Rate } from './read-pace';
