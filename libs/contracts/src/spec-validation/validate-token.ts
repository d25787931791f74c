import { z } from 'zod';
import { ROLES } from '../access/roles';
import { MAX_TOKEN_LIFE_MS, RESERVED_TOKEN_NAMES, type TokenRequest } from '../access/tokens';
import { parseSelector } from '../selector';
import { check } from './check-request';
import { line, milliseconds, name, oneOf, says } from './fields';

/** Shorter would be over before the token is where it belongs. Milliseconds. */
const SHORTEST_LIFE_MS = 1_000;

const fields = {
  name: name('the name of the token'),
  role: oneOf(ROLES),
  selector: line(1_024).optional(),
  expiresInMs: milliseconds(SHORTEST_LIFE_MS, MAX_TOKEN_LIFE_MS).optional(),
};
const schema = z.strictObject(
  fields,
  says('an object with name and role, and perhaps selector and expiresInMs'),
);

/**
 * Checks the body of a new token.
 *
 * @throws BelayError `INVALID_REQUEST` with every problem.
 */
export function validateTokenRequest(raw: unknown): TokenRequest {
  return check(schema, raw, Object.keys(fields), (body, problems) => {
    const { name: given, role, selector } = body;
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
  }) as TokenRequest;
}
