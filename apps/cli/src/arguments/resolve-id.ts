import type { BelayClient, CallOptions } from '#libs/client';
import {
  BelayError,
  isAgentId,
  isExecutionId,
  isLatchId,
  isOrderId,
  isQuestionId,
  isWorkerId,
} from '#libs/contracts';
import { UsageError } from '../exit-codes';

export type IdKind = 'execution' | 'agent' | 'worker' | 'order' | 'latch' | 'question';

const KINDS: readonly { kind: IdKind; prefix: string; test: (id: string) => boolean; example: string }[] = [
  { kind: 'execution', prefix: 'exe_', test: isExecutionId, example: 'exe_ and 26 characters' },
  { kind: 'agent', prefix: 'agt_', test: isAgentId, example: 'agt_, 26 characters, -INDEX-ATTEMPT' },
  { kind: 'worker', prefix: 'wrk_', test: isWorkerId, example: 'wrk_ and 26 characters' },
  { kind: 'order', prefix: 'ord_', test: isOrderId, example: 'ord_ and 26 characters' },
  {
    kind: 'question',
    prefix: 'ask_',
    test: isQuestionId,
    example: 'ask_, 26 characters, -INDEX-ATTEMPT-NUMBER',
  },
  { kind: 'latch', prefix: 'lat_', test: isLatchId, example: 'lat_ and 26 characters' },
];

/** The kind of thing that a complete id names; undefined for any other text. */
export function kindOf(id: string): IdKind | undefined {
  return KINDS.find(({ test }) => test(id))?.kind;
}

/** The id, if it is a complete one of that kind; otherwise an error that shows the form of such an id. */
export function requireId(id: string, kind: IdKind): string {
  const found = kindOf(id);
  if (found === kind) return id;
  const { example } = KINDS.find((entry) => entry.kind === kind) ?? { example: '' };
  const is =
    found === undefined ? `is not the id of ${an(kind)}` : `is the id of ${an(found)}, not of ${an(kind)}`;
  throw new UsageError(`"${id}" ${is} (${example}). ${WHERE[kind]}`);
}

/** This many executions are searched for an abbreviation. */
const LOOKED_THROUGH = 200;
const SHORTEST = 4;
const WHOLE = 26;
const ULID_CHARACTER = '[0-9A-HJKMNP-TV-Z]';

/** A complete execution id, or the one that begins or ends with the given text (four characters at least). */
export async function resolveExecutionId(
  client: BelayClient,
  given: string,
  options: CallOptions = {},
): Promise<string> {
  if (isExecutionId(given)) return given;
  if (kindOf(given) !== undefined || !/^(exe_)?[0-9A-Za-z]{1,26}$/.test(given))
    return requireId(given, 'execution');
  const part = given.replace(/^exe_/, '').toUpperCase();
  // Ids have no I, L, O and U: a text with one of them, or of full length and still no id, is no part of an id either.
  if (part.length === WHOLE || !new RegExp(`^${ULID_CHARACTER}+$`).test(part))
    return requireId(given, 'execution');
  if (part.length < SHORTEST)
    throw new UsageError(
      `"${given}" is no execution's id (exe_ and ${WHOLE} characters), and too short for a part of one: ` +
        `give at least ${SHORTEST} characters of those after exe_. ${WHERE.execution}`,
    );
  const { items } = await client.executions({ limit: LOOKED_THROUGH, ...options });
  const matches = items
    .map(({ id }) => id)
    .filter((id) => id.slice(4).startsWith(part) || (!given.startsWith('exe_') && id.endsWith(part)));
  const [only] = matches;
  if (only === undefined)
    throw new BelayError('NOT_FOUND', `No execution matches "${given}". List them with: belay ps --all`);
  if (matches.length > 1)
    throw new UsageError(
      `"${given}" matches ${matches.length} executions: ${matches.slice(0, 5).join(', ')}${matches.length > 5 ? ', …' : ''}.`,
    );
  return only;
}

const WHERE: Readonly<Record<IdKind, string>> = {
  execution: 'List them with: belay ps --all',
  agent: 'List them with: belay get EXECUTION',
  worker: 'List them with: belay workers',
  order: 'belay get EXECUTION shows the order that stopped it.',
  latch: 'List the engaged ones with: belay latches',
  question: 'List the open ones with: belay asks',
};

function an(kind: IdKind): string {
  return /^[aeo]/.test(kind) ? `an ${kind}` : `a ${kind}`;
}
