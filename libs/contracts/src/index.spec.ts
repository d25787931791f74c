import * as contracts from './index';

describe('the door of contracts', () => {
  it('has for every code of a problem a sentence without a full stop', () => {
    for (const [code, meaning] of Object.entries(contracts.PROBLEM_CODES)) {
      expect(code).toMatch(/^[A-Z][A-Z0-9_]*$/);
      expect(meaning).toMatch(/[^.]$/);
    }
  });

  it('lets the defaults of a spec pass its own rules', () => {
    const { DEFAULT_BACKOFF, DEFAULT_GRACE_MS, DEFAULT_MAX_ATTEMPTS, DEFAULT_POOL, DEFAULT_PRIORITY } =
      contracts;
    const node = {
      id: 'a',
      run: { command: ['true'] },
      backoff: DEFAULT_BACKOFF,
      graceMs: DEFAULT_GRACE_MS,
      maxAttempts: DEFAULT_MAX_ATTEMPTS,
      pool: DEFAULT_POOL,
      priority: DEFAULT_PRIORITY,
    };
    const [only] = contracts.validateSpec({ name: 'x', nodes: [node] }).nodes;
    expect(only).toMatchObject(node);
  });
});
