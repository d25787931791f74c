import { BelayError } from '../errors';
import { formatSelector, type Selector } from '../selector';
import { may, rolesThatMay, type Permission, type Role } from './roles';

/** The author of an act: stored with orders, latches, audit entries and executions (docs/tokens.md#who-did-it). */
export interface Signature {
  /** The name of the token; for acts without a token, the part of Belay that acted. */
  readonly by: string;
  /** The token's role. */
  readonly role?: Role;
  /** The id of the HTTP request. */
  readonly requestId?: string;
}

/** Fields stored beside the name of the actor of an act. */
export type SignedWith = Omit<Signature, 'by'>;

/** The author of an act, in the fields of an execution's record. */
export interface ActedBy {
  readonly actor?: string;
  readonly actorRole?: Role;
  readonly requestId?: string;
}

/** The author of a request. */
export interface Caller {
  /** The name of the token. */
  readonly name: string;
  readonly role: Role;
  /** The labels of everything that the token may see and touch; absent: everything. */
  readonly selector?: Selector;
  readonly requestId: string;
}

/** The caller, as the records of its acts name it. */
export function signatureOf({ name, role, requestId }: Caller): Signature {
  return { by: name, role, requestId };
}

/** The author's role and request, where known, and no other field. */
export function roleOf({ role, requestId }: SignedWith): SignedWith {
  return { ...(role === undefined ? {} : { role }), ...(requestId === undefined ? {} : { requestId }) };
}

/** The author of an act, in the fields of an execution's record. */
export function actorOf({ by, role, requestId }: Signature): ActedBy {
  return {
    actor: by,
    ...(role === undefined ? {} : { actorRole: role }),
    ...(requestId === undefined ? {} : { requestId }),
  };
}

/** @throws BelayError FORBIDDEN when the caller's role lacks the permission */
export function requirePermission({ name, role }: Pick<Caller, 'name' | 'role'>, needs: Permission): void {
  if (may(role, needs)) return;
  throw new BelayError(
    'FORBIDDEN',
    `The token ${name} has the role ${role}, which lacks the permission "${needs}". Roles with it: ${rolesThatMay(needs).join(', ')}. Nothing was done.`,
    { details: { role, needs } },
  );
}

/** The refusal of a route about the whole fleet to a token that is bound to labels. */
export function boundError(
  { name, selector = [] }: Pick<Caller, 'name' | 'selector'>,
  why: string,
): BelayError {
  const bound = formatSelector(selector);
  return new BelayError('FORBIDDEN', `The token ${name} is bound to ${bound}: ${why} Nothing was done.`, {
    details: { selector: bound },
  });
}
