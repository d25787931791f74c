import { z } from 'zod';
import { ID_PATTERNS } from '../ids';
import { agentSchema, executionSchema } from './spec-schema';
import { validateAnswer } from './validate-questions';
import {
  scopeSchema,
  validateDrillRequest,
  validateKillRequest,
  validateLatchRequest,
  validateLimitsRequest,
  validateNoteRequest,
  validatePauseRequest,
  validateQueuePause,
  validateRemoveRequest,
  validateRetryRequest,
  validateStopRequest,
} from './validate-requests';
import { validateSignal } from './validate-signal';
import { validateTokenRequest } from './validate-token';

/**
 * The schema of every body that the HTTP interface takes, by name: the ones that check it. A scope, which Belay checks by a
 * table of its own, is written out.
 */
export function requestSchemas() {
  const scope = scopeSchema();
  const executionId = z.string().regex(ID_PATTERNS.execution).describe('The execution to stop.');
  return {
    ExecutionSpec: executionSchema,
    AgentSpec: agentSchema,
    Scope: scope,
    StopRequest: validateStopRequest.schema,
    StopByIdRequest: validateStopRequest.schema.extend({ executionId }),
    PauseRequest: validatePauseRequest.schema,
    RetryRequest: validateRetryRequest.schema,
    SignalRequest: validateSignal.schema,
    KillRequest: validateKillRequest.schema.extend({ scope }),
    LatchRequest: validateLatchRequest.schema.extend({ scope }),
    NoteRequest: validateNoteRequest.schema,
    DrillRequest: validateDrillRequest.schema,
    QueuePauseRequest: validateQueuePause.schema,
    RemoveRequest: validateRemoveRequest.schema,
    LimitsRequest: validateLimitsRequest.schema,
    AnswerRequest: validateAnswer.schema,
    TokenRequest: validateTokenRequest.schema,
  } as const;
}

/** The name of a body's schema. */
export type RequestName = keyof ReturnType<typeof requestSchemas>;
