import { BelayError } from '../errors';
import { formatSelector, type Selector } from '../selector';
import { may, rolesThatMay, type Permission, type Role } from './roles';

/** Who did an act: stored with orders, latches, audit entries and executions (requirement R81). */
export interface Signature {
  /** The name of the token; of acts that no token was asked for, the part of Belay that did it. */
  readonly by: string;
  /** The role that the token had. */
  readonly role?: Role;
  /** The HTTP request. */
  readonly requestId?: string;
}

/** Fields stored beside the name of the actor of an act. */
export type SignedWith = Omit<Signature, 'by'>;

/** The same as the record of an execution has it. */
export interface ActedBy {
  readonly actor?: string;
  readonly actorRole?: Role;
  readonly requestId?: string;
}

/** Who makes a request. */
export interface Caller {
  /** Of the token. */
  readonly name: string;
  readonly role: Role;
  /** The labels of what the token may see and touch; absent: everything. */
  readonly selector?: Selector;
  readonly requestId: string;
}

/** The caller as the records of its acts name it. */
export function signatureOf({ name, role, requestId }: Caller): Signature {
  return { by: name, role, requestId };
}

/** Role and request of who did an act, where they are known, and no other field. */
export function roleOf({ role, requestId }: SignedWith): SignedWith {
  return { ...(role === undefined ? {} : { role }), ...(requestId === undefined ? {} : { requestId }) };
}

/** Who did an act, as the record of an execution has it. */
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

/** The refusal of a route that is about the whole fleet to a token that is bound to labels. */
export function boundError(
  { name, selector = [] }: Pick<Caller, 'name' | 'selector'>,
  why: string,
): BelayError {
  const bound = formatSelector(selector);
  return new BelayError('FORBIDDEN', `The token ${name} is bound to ${bound}: ${why} Nothing was done.`, {
    details: { selector: bound },
  });
}
