import { limitNames, type LimitRule } from './limits';
import { validateLimitsRequest } from './spec-validation';

const RULES: LimitRule[] = [
  { by: 'fleet', running: 9 },
  { by: 'pool', running: 5 },
  { by: 'label.tenant', running: 2 },
  { by: 'label.tenant', perMinute: 20 },
];

describe('R35 limits', () => {
  it('count an attempt once under each name that it has', () => {
    expect(limitNames(RULES, 'gpu', { tenant: 'acme' })).toEqual(['fleet', 'pool=gpu', 'label.tenant=acme']);
    expect(limitNames(RULES, 'gpu', {})).toEqual(['fleet', 'pool=gpu']);
    expect(limitNames(RULES, '@wrk_1', { tenant: 'acme' })).toEqual([]);
  });

  it('are refused where one is set twice, each with its place', () => {
    const limits = [
      { by: 'fleet', running: 9 },
      { by: 'fleet', running: 5, perMinute: 3 },
      { by: 'label.a', perMinute: 1 },
      { by: 'label.a', running: 1, perMinute: 1 },
      'nonsense',
      { by: 7, running: 1 },
    ];
    expect(() => validateLimitsRequest({ limits })).toThrow(
      expect.objectContaining({
        code: 'INVALID_REQUEST',
        problems: expect.arrayContaining([
          {
            path: 'limits[1].running',
            code: 'DUPLICATE_LIMIT',
            message: 'limits[0] has a bound "running" by "fleet" already; set it once.',
          },
          {
            path: 'limits[3].perMinute',
            code: 'DUPLICATE_LIMIT',
            message: 'limits[2] has a bound "perMinute" by "label.a" already; set it once.',
          },
          expect.objectContaining({ path: 'limits[4]' }),
          expect.objectContaining({ path: 'limits[5].by' }),
        ]) as unknown,
      }) as Error,
    );
  });

  it('are checked as a whole', () => {
    expect(validateLimitsRequest({ limits: RULES, note: 'x' })).toEqual({ limits: RULES, note: 'x' });
    expect(validateLimitsRequest({ limits: [] })).toEqual({ limits: [] });
    for (const limits of [
      undefined,
      [{ by: 'pool' }],
      [{ by: 'tenant', running: 1 }],
      [{ by: 'label.', running: 1 }],
      [{ by: 'label.a=b', running: 1 }],
      [{ by: 'fleet', running: 0 }],
      [{ by: 'fleet', running: 1.5 }],
      [{ by: 'fleet', perMinute: 10_001 }],
      [{ by: 'fleet', running: 1, per: 2 }],
      Array.from({ length: 21 }, () => ({ by: 'fleet', running: 1 })),
    ])
      expect(() => validateLimitsRequest({ limits })).toThrow(
        expect.objectContaining({ code: 'INVALID_REQUEST' }) as Error,
      );
  });
});
