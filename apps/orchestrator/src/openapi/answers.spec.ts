import type {
  AgentLogs,
  AgentRecord,
  ArmedReport,
  AuditEntry,
  AuditVerdict,
  BelayEvent,
  CreatedToken,
  DeletedExecution,
  DrillStatus,
  ExecutionRecord,
  Latch,
  LimitsRecord,
  LogFile,
  LogLine,
  NodeRecord,
  OutputSize,
  QuarantinedRecord,
  QuestionRecord,
  QueueDetail,
  QueuePaused,
  QueueRecord,
  QueueRemoval,
  Receipt,
  RevokedToken,
  Scope,
  ScopeWarning,
  Signalled,
  StopResponse,
  TokenRecord,
  WebhookDelivery,
  WebhookRecord,
  WorkerRecord,
} from '#libs/contracts';
import type { BelayClient } from '#libs/client';
import type { z } from 'zod';
import { ANSWERS } from './answers';
import { ORDER_ANSWERS } from './order-answers';

type Answered<K extends keyof BelayClient> = BelayClient[K] extends (...given: never[]) => Promise<infer T>
  ? T
  : never;

/** The type that each schema must have. */
interface Types {
  ExecutionRecord: ExecutionRecord;
  DeletedExecution: DeletedExecution;
  NodeRecord: NodeRecord;
  NodeDetail: Answered<'node'>;
  Signalled: Signalled;
  StopResponse: StopResponse;
  StopAccepted: Answered<'stopWithoutWaiting'>;
  Paused: Answered<'pause'>;
  AgentRecord: AgentRecord;
  AgentLogs: AgentLogs;
  LogLine: LogLine;
  LogFile: LogFile;
  OutputSize: OutputSize;
  WorkerRecord: WorkerRecord;
  BelayEvent: BelayEvent;
  QuestionRecord: QuestionRecord;
  QueueRecord: QueueRecord;
  WebhookRecord: WebhookRecord;
  WebhookDelivery: WebhookDelivery;
  QueueDetail: QueueDetail;
  QueuePaused: QueuePaused;
  QueueRemoval: QueueRemoval;
  LimitsRecord: LimitsRecord;
  QuarantinedRecord: QuarantinedRecord;
  TokenRecord: TokenRecord;
  CreatedToken: CreatedToken;
  RevokedToken: RevokedToken;
  Receipt: Receipt;
  Latch: Latch;
  Released: Answered<'releaseLatch'>;
  ScopeWarning: ScopeWarning;
  OrderScope: Scope;
  KillPlan: Answered<'planKill'>;
  DrillReport: Answered<'drill'>;
  DrillStatus: DrillStatus;
  ArmedReport: ArmedReport;
  AuditEntry: AuditEntry;
  AuditVerdict: AuditVerdict;
}

/** A type without `readonly`, and with optional fields that are never `undefined`. */
type Plain<T> = unknown extends T
  ? unknown
  : T extends readonly (infer Entry)[]
    ? Plain<Entry>[]
    : T extends object
      ? { -readonly [K in keyof T]: Plain<Exclude<T[K], undefined>> }
      : T;
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

const ALL = { ...ANSWERS, ...ORDER_ANSWERS };
type All = typeof ALL;
/** The names of the schemas whose type is another one. */
type Wrong = {
  [K in keyof All]: K extends keyof Types
    ? Same<Plain<z.output<All[K]>>, Plain<Types[K]>> extends true
      ? never
      : K
    : K;
}[keyof All];

describe('the schemas of answers', () => {
  it('have the types of libs/contracts: the compiler names one that has another', () => {
    const none: [Wrong] extends [never] ? 'none' : { wrong: Wrong } = 'none';
    expect(none).toBe('none');
    expect(Object.keys(ALL).length).toBeGreaterThan(30);
  });
});
