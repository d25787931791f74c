import { z } from 'zod';

/** The words of the answers' schemas. */
export const text = () => z.string();
export const flag = () => z.boolean();
export const whole = () => z.number().int();
/** A time of the server's clock. */
export const time = () => whole().describe("Milliseconds since 1970, the server's clock.");

/** A scope as it is stored. */
export const scope = z.union([
  z.object({ type: z.literal('all') }),
  z.object({ type: z.literal('pool'), pool: text() }),
  z.object({ type: z.literal('selector'), selector: text() }),
  z.object({ type: z.literal('worker'), workerId: text() }),
  z.object({ type: z.literal('execution'), executionId: text() }),
  z.object({ type: z.literal('agent'), agentId: text() }),
]);

/** A warning beside an answer. */
export const warning = z.object({
  code: z.literal('NOTHING_MATCHED'),
  message: text(),
  suggestion: text().optional(),
});

/** The bound on the requests of a token. */
export const requestRate = z.object({ perSecond: whole(), burst: whole().optional() });

/** The state of a service. */
export const health = z.object({ state: text() });

/** An error, RFC 9457. */
export const problem = z.object({
  type: text(),
  title: text(),
  status: whole(),
  code: text().describe('Decide by it; codes never change meaning.'),
  detail: text().describe('A sentence that says what to do.'),
  problems: z
    .array(z.object({ path: text(), code: text(), message: text() }))
    .optional()
    .describe('Every fault of the request.'),
  details: z.record(z.string(), z.unknown()).optional(),
});
