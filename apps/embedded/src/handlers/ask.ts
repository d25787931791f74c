import { DENIED, type AskRequest, type QuestionRecord } from '#libs/contracts';
import { NotReportable } from './reporter';
import type { WorkerClient } from './worker-client';

/** A question's end, as its asker sees it. */
export interface Answered extends Pick<QuestionRecord, 'id' | 'by' | 'reason'> {
  /** One of the choices, or `denied`: by a person, by the deadline, or since the question was cancelled. */
  readonly answer: string;
}

/** Asks people, and waits for the answer. */
export type Ask = (request: AskRequest) => Promise<Answered>;

export function makeAsk(client: WorkerClient): Ask {
  return async (ask) => {
    const { question: asked } = await client.question({ act: 'ask', ask });
    if (asked === undefined)
      throw new NotReportable('ASK_NOT_STORED', 'The worker did not say which question it stored.');
    const { question } = await client.question({ act: 'await', id: asked.id });
    const { id, answer = DENIED, by, reason } = question ?? asked;
    return {
      id,
      answer,
      ...(by === undefined ? {} : { by }),
      ...(reason === undefined ? {} : { reason }),
    };
  };
}
