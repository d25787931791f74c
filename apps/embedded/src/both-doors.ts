/** The exports that two entry points of the package share: `belayd` and `belayd/nest`. */
export {
  BelayError,
  isBelayError,
  type AgentRecord,
  type AgentSpecInput,
  type AnswerRequest,
  type AskRequest,
  type ErrorCode,
  type ExecutionRecord,
  type ExecutionSpecInput,
  type Problem,
  type QuestionRecord,
  type Receipt,
  type StopResponse,
} from '#libs/contracts';
export type { ServiceLog } from '#libs/service';
export type { BelayNotice, EmbeddedWorker } from './embedded-options';
