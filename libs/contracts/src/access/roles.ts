/** The kinds of acts that a role allows. Each route needs one of them (`ROUTES`). */
export const PERMISSIONS = [
  'view',
  'receipt',
  'submit',
  'halt',
  'stop',
  'release',
  'answer',
  'operate',
  'admin',
] as const;
export type Permission = (typeof PERMISSIONS)[number];

/** The meaning of each permission, for the documents. */
export const PERMISSION_MEANING: Readonly<Record<Permission, string>> = {
  view: 'read executions, agents, logs, events, orders, latches and the state of the fleet',
  receipt: 'read the receipt of an order',
  submit: 'create, start, resume and retry executions',
  halt: 'stop or pause one execution, kill one agent',
  stop: 'kill and freeze by scope, engage latches, dry-run both',
  release: 'release latches, thaw agents',
  answer: 'answer the questions of agents',
  operate: 'change queues and limits, run drills, close orders, delete ended executions',
  admin: 'make, list and revoke tokens',
};

/** From the fewest permissions to the most. */
export const ROLES = ['viewer', 'submitter', 'stopper', 'approver', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/**
 * The permissions of each role (docs/tokens.md#roles). A stopper may stop, and nothing else, so its token is safe to give to an
 * alert manager or an agent. It may read receipts, to see whether its stop is proved.
 */
export const ROLE_PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  viewer: ['view', 'receipt'],
  submitter: ['view', 'receipt', 'submit', 'halt'],
  stopper: ['receipt', 'halt', 'stop'],
  approver: ['view', 'receipt', 'answer'],
  operator: ['view', 'receipt', 'submit', 'halt', 'stop', 'release', 'answer', 'operate'],
  admin: PERMISSIONS,
};

/** Whether a role has a permission. */
export function may(role: Role, permission: Permission): boolean {
  return ROLE_PERMISSIONS[role].includes(permission);
}

/** The roles that have a permission, from the fewest permissions to the most. */
export function rolesThatMay(permission: Permission): Role[] {
  return ROLES.filter((role) => may(role, permission));
}
