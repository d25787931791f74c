import type { ErrorCode, RequestName } from '#libs/contracts';
import type { ANSWERS } from './answers';
import type { ORDER_ANSWERS } from './order-answers';

/** The name of an answer's schema. */
export type AnswerName = keyof typeof ANSWERS | keyof typeof ORDER_ANSWERS | 'Health';

/** The content of an answer. `page`: one page of a list; `items`: the whole list. */
export type Content =
  | { readonly one: AnswerName | readonly AnswerName[] }
  | { readonly page: AnswerName }
  | { readonly items: AnswerName }
  | { readonly media: 'text/plain' | 'text/html' | 'application/json'; readonly says: string }
  | { readonly frames: Frames };

/** The description of one route; its method, permission, subject and query come from the table of routes. */
export interface Operation {
  readonly id: string;
  readonly summary: string;
  readonly answers: Readonly<Record<number, Content | readonly Content[]>>;
  readonly body?: RequestName;
  readonly examples?: Examples;
  /** Codes beside those that every route can answer. */
  readonly codes?: readonly ErrorCode[];
  readonly headers?: readonly ('Idempotency-Key' | 'Last-Event-ID' | 'traceparent')[];
  /** The answer has the id of this kind of thing, at this place. */
  readonly names?: { readonly kind: Kind; readonly at: string };
}

/** What an `:id` in a path names. */
export type Kind = 'execution' | 'agent' | 'order' | 'latch' | 'question' | 'token' | 'webhook';

/** Examples of a body, by name. */
export type Examples = Readonly<Record<string, unknown>>;

/** The frames of an event stream: each one's meaning, and the schema of its data. */
export type Frames = Readonly<Record<string, { readonly says: string; readonly data: Data }>>;
/** A schema by its name, or fields. */
export type Data = AnswerName | { readonly [field: string]: FieldData };
type FieldData = AnswerName | 'text' | 'number' | `${AnswerName}?`;
