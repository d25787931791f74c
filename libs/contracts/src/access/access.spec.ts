import * as fc from 'fast-check';
import { isBelayError } from '../errors';
import { parseSelector, selectorMatches, selectorWithin, type Requirement, type Selector } from '../selector';
import { validateTokenRequest } from '../spec-validation';
import {
  actorOf,
  boundError,
  burstOf,
  formatRate,
  isStopping,
  isTokenSecret,
  may,
  MAX_REQUEST_RATE,
  MAX_TOKEN_LIFE_MS,
  parseRate,
  PERMISSION_MEANING,
  PERMISSIONS,
  requirePermission,
  ROLE_PERMISSIONS,
  ROLES,
  roleOf,
  rolesThatMay,
  ROUTES,
  ruleOf,
  signatureOf,
  type Caller,
} from '.';

const read = (text: string): Selector => parseSelector(text).selector ?? [];
const caller: Caller = { name: 'alert', role: 'stopper', requestId: 'req_1', selector: read('tenant=a') };

describe('R65 roles', () => {
  it('R82 a stopper may read receipts, halt and stop, and nothing else', () => {
    expect(PERMISSIONS.filter((permission) => may('stopper', permission))).toEqual([
      'receipt',
      'halt',
      'stop',
    ]);
  });

  it('only an admin makes tokens, and an admin may everything', () => {
    expect(rolesThatMay('admin')).toEqual(['admin']);
    expect(ROLE_PERMISSIONS.admin).toEqual(PERMISSIONS);
    expect(rolesThatMay('release')).toEqual(['operator', 'admin']);
  });

  it('each permission is named by a role other than admin, save that of tokens, and has its meaning', () => {
    for (const permission of PERMISSIONS) {
      expect(rolesThatMay(permission).length).toBeGreaterThan(permission === 'admin' ? 0 : 1);
      expect(PERMISSION_MEANING[permission]).not.toBe('');
    }
    expect(ROLES.every((role) => ROLE_PERMISSIONS[role].length > 0)).toBe(true);
  });

  it('a refusal names the role, the permission and the roles that have it', () => {
    expect(() => requirePermission(caller, 'stop')).not.toThrow();
    expect(() => requirePermission(caller, 'release')).toThrow(
      expect.objectContaining({
        code: 'FORBIDDEN',
        message:
          'The token alert has the role stopper, which lacks the permission "release". Roles with it: operator, admin. Nothing was done.',
        details: { role: 'stopper', needs: 'release' },
      }),
    );
    const bound = boundError(caller, 'this is about the whole fleet.');
    expect(isBelayError(bound)).toBe(true);
    expect(bound.message).toBe(
      'The token alert is bound to tenant=a: this is about the whole fleet. Nothing was done.',
    );
    expect(boundError({ name: 'all' }, 'no.').message).toContain('is bound to : no.');
  });

  it('R81 a caller signs with the name of its token, its role and its request', () => {
    const said = signatureOf(caller);
    expect(said).toEqual({ by: 'alert', role: 'stopper', requestId: 'req_1' });
    expect(roleOf(said)).toEqual({ role: 'stopper', requestId: 'req_1' });
    expect(actorOf(said)).toEqual({ actor: 'alert', actorRole: 'stopper', requestId: 'req_1' });
    expect([roleOf({}), actorOf({ by: 'belay' })]).toEqual([{}, { actor: 'belay' }]);
  });
});

describe('R65 the table of routes', () => {
  it('has each route once, and gives HEAD the rule of GET', () => {
    const names = ROUTES.map(({ method, path }) => `${method} ${path}`);
    expect(new Set(names).size).toBe(names.length);
    expect(ruleOf('HEAD', '/api/executions')).toBe(ruleOf('GET', '/api/executions'));
    expect(ruleOf('GET', '/api/nothing')).toBeUndefined();
  });

  it('asks for no token only of probes and of pages that say nothing of the fleet', () => {
    expect(ROUTES.filter(({ needs }) => needs === 'none').map(({ path }) => path)).toEqual([
      '/',
      '/health',
      '/health/live',
      '/health/ready',
      '/api/openapi.json',
      '/api/docs',
    ]);
  });

  it('R82 lets a stopper use seven routes, none of which starts or releases anything', () => {
    const open = ROUTES.filter(({ needs }) => needs !== 'none' && may('stopper', needs));
    expect(open.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /api/executions/:id/pause',
      'POST /api/executions/:id/stop',
      'POST /api/execute/stop',
      'POST /api/agents/:id/kill',
      'POST /api/killswitch',
      'GET /api/killswitch/:id',
      'POST /api/latches',
    ]);
  });
});

describe('R65 the rate of a token', () => {
  it('is requests per second, perhaps with a burst; without one, twice as many come at once', () => {
    for (const text of ['1', '50:200', String(MAX_REQUEST_RATE)])
      expect(formatRate(parseRate(text) ?? { perSecond: 0 })).toBe(text);
    expect(parseRate(' 5:1 ')).toEqual({ perSecond: 5, burst: 1 });
    expect([burstOf({ perSecond: 5 }), burstOf({ perSecond: 5, burst: 1 })]).toEqual([10, 1]);
  });

  it.each(['', '0', '5:0', '100001', '5:100001', '1.5', '-1', '5:', '5/s'])('%j is none', (text) =>
    expect(parseRate(text)).toBeUndefined(),
  );

  it('R82 never concerns the routes that stop', () => {
    const paths = ROUTES.filter(isStopping).map(({ method, path }) => `${method} ${path}`);
    expect(paths).toEqual([
      'POST /api/executions/:id/pause',
      'POST /api/executions/:id/stop',
      'POST /api/execute/stop',
      'POST /api/agents/:id/kill',
      'POST /api/killswitch',
      'POST /api/latches',
    ]);
  });
});

describe('R65 the body of a token', () => {
  it('is a name and a role, and perhaps labels and a time', () => {
    const request = { name: 'pager-duty', role: 'stopper', selector: 'tenant=a', expiresInMs: 60_000 };
    expect(validateTokenRequest(request)).toEqual(request);
    for (const rate of [{ perSecond: 5 }, { perSecond: 5, burst: 20 }])
      expect(validateTokenRequest({ name: 'x', role: 'viewer', rate })).toMatchObject({ rate });
    expect(validateTokenRequest({ name: 'x', role: 'admin' })).toEqual({ name: 'x', role: 'admin' });
  });

  it.each([
    [{}, ['name', 'role']],
    [{ name: 'a b', role: 'boss' }, ['name', 'role']],
    [{ name: 'admin', role: 'viewer' }, ['name']],
    [{ name: 'belay', role: 'viewer' }, ['name']],
    [{ name: 'x', role: 'viewer', selector: 'tenant=' }, ['selector']],
    [{ name: 'x', role: 'viewer', selector: ' ' }, ['selector']],
    [{ name: 'x', role: 'admin', selector: 'tenant=a' }, ['selector']],
    [{ name: 'x', role: 'viewer', expiresInMs: 0 }, ['expiresInMs']],
    [{ name: 'x', role: 'viewer', expiresInMs: MAX_TOKEN_LIFE_MS + 1 }, ['expiresInMs']],
    [{ name: 'x', role: 'viewer', secret: 'mine' }, ['secret']],
    [{ name: 'x', role: 'viewer', rate: 5 }, ['rate']],
    [{ name: 'x', role: 'viewer', rate: { burst: 5 } }, ['rate.perSecond']],
    [{ name: 'x', role: 'viewer', rate: { perSecond: 0, burst: 1.5 } }, ['rate.perSecond', 'rate.burst']],
    [{ name: 'x', role: 'viewer', rate: { perSecond: 5, brust: 5 } }, ['rate.brust']],
    ['x', ['']],
  ])('%j is refused for %j', (body, paths) => {
    const problems = expect.objectContaining({
      code: 'INVALID_REQUEST',
      problems: paths.map((path) => expect.objectContaining({ path }) as object),
    }) as Error;
    expect(() => validateTokenRequest(body)).toThrow(problems);
  });

  it('a secret has 256 bits behind its prefix; another text is none', () => {
    expect(isTokenSecret(`belay_${'a'.repeat(43)}`)).toBe(true);
    expect(['', 'belay_', `belay_${'a'.repeat(44)}`, `belay_${'a'.repeat(42)}=`].some(isTokenSecret)).toBe(
      false,
    );
  });
});

describe('R65 a selector within another', () => {
  it.each([
    ['tenant=a', 'tenant=a', true],
    ['tenant=a,env=prod', 'tenant=a', true],
    ['tenant=a', 'tenant in (a,b)', true],
    ['tenant in (a,c)', 'tenant in (a,b)', false],
    ['env=prod', 'tenant=a', false],
    ['tenant=a', 'tenant', true],
    ['tenant', 'tenant', true],
    ['!tenant', 'tenant', false],
    ['!tenant', '!tenant', true],
    ['tenant=a', '!tenant', false],
    ['!env', 'env!=prod', true],
    ['env=dev', 'env!=prod', true],
    ['env=prod', 'env!=prod', false],
    ['env notin (prod,dev)', 'env!=prod', true],
    ['env!=dev', 'env!=prod', false],
    ['env', 'env!=prod', false],
    ['env!=dev', 'env=prod', false],
  ])('%s within %s: %s', (inner, outer, is) => {
    expect(selectorWithin(read(inner), read(outer))).toBe(is);
  });

  it('is never true where some labels meet the inner one and not the outer one', () => {
    const key = fc.constantFrom('a', 'b');
    const values = fc.uniqueArray(fc.constantFrom('x', 'y', 'z'), { minLength: 1 });
    const requirement: fc.Arbitrary<Requirement> = fc.oneof(
      fc.record({ key, op: fc.constantFrom('in' as const, 'notin' as const), values }),
      fc.record({ key, op: fc.constantFrom('exists' as const, 'absent' as const) }),
    );
    const selector = fc.array(requirement, { minLength: 1, maxLength: 3 });
    const labels = fc.dictionary(key, fc.constantFrom('x', 'y', 'z', 'w'), { maxKeys: 2 });
    fc.assert(
      fc.property(selector, selector, labels, (inner, outer, of) => {
        if (!selectorWithin(inner, outer) || !selectorMatches(inner, of)) return;
        expect(selectorMatches(outer, of)).toBe(true);
      }),
      { numRuns: 5_000 },
    );
  });
});
