import { z } from 'zod';
import { MAX_REQUEST_RATE } from '../access/rates';
import { ROLES } from '../access/roles';
import { MAX_TOKEN_LIFE_MS, RESERVED_TOKEN_NAMES } from '../access/tokens';
import { parseSelector } from '../selector';
import { shape } from './check-request';
import { line, milliseconds, name, oneOf, says, wholeNumber } from './fields';

/** A shorter validity would be over before the token reaches its user. Milliseconds. */
const SHORTEST_LIFE_MS = 1_000;

/** Checks the body of a new token. @throws BelayError `INVALID_REQUEST` with every problem. */
export const validateTokenRequest = shape(
  {
    name: name('the name of the token'),
    role: oneOf(ROLES),
    /** Conditions on labels such as `tenant=a`. */
    selector: line(1_024).optional().describe('Conditions on labels such as tenant=a.'),
    /** The validity from now on. Milliseconds; absent: it does not expire. */
    expiresInMs: milliseconds(SHORTEST_LIFE_MS, MAX_TOKEN_LIFE_MS)
      .optional()
      .describe('Its validity from now on, milliseconds; absent: it does not expire.'),
    /** The bound on its requests. */
    rate: z
      .strictObject(
        {
          perSecond: wholeNumber(1, MAX_REQUEST_RATE, ' of requests'),
          burst: wholeNumber(1, MAX_REQUEST_RATE, ' of requests').optional(),
        },
        says('an object with perSecond, and perhaps burst'),
      )
      .optional()
      .describe('Requests per second and at once; absent: BELAY_HTTP_RATE.'),
  },
  'an object with name and role, and perhaps selector, expiresInMs and rate',
  {
    inner: ['perSecond', 'burst'],
    more: ({ name: given, role, selector }, problems) => {
      if (RESERVED_TOKEN_NAMES.includes(given as string))
        problems.add(['name'], 'PATTERN', 'must not be the name of a part of Belay.');
      if (typeof selector !== 'string') return;
      for (const { code, message } of parseSelector(selector).problems ?? [])
        problems.add(['selector'], code, message);
      if (role === 'admin')
        problems.add(
          ['selector'],
          'ONE_OF',
          'must be left out for the role admin: an admin makes tokens for every label.',
        );
    },
  },
);
/** The body of a new token. */
export type TokenRequest = ReturnType<typeof validateTokenRequest>;
