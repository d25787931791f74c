'use strict';
const shared = {
  testEnvironment: '<rootDir>/test/jest/environment.cjs',
  resolver: '<rootDir>/test/jest/resolver.cjs',
  transform: { '\\.(ts|js|mjs)$': '<rootDir>/test/jest/transformer.cjs' },
  transformIgnorePatterns: [],
  moduleFileExtensions: ['ts', 'js', 'mjs', 'cjs', 'json', 'node'],
  moduleNameMapper: { '^#libs/(.*)$': '<rootDir>/libs/$1/src/index.ts' },
};

/**
 * Unit specs stand beside their source, properties of several libraries in test/properties; integration tests drive
 * real processes from dist/.
 */
module.exports = {
  // Tests that have all they use to themselves (test/support/own-fleet.ts) wait far more than they work.
  maxConcurrency: 4,
  testSequencer: '<rootDir>/test/jest/sequencer.cjs',
  projects: [
    {
      ...shared,
      displayName: 'unit',
      testMatch: ['<rootDir>/{libs,apps,bench}/**/*.spec.ts', '<rootDir>/test/properties/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/jest/patience.cjs'],
    },
    {
      ...shared,
      displayName: 'integration',
      testMatch: ['<rootDir>/test/integration/**/*.test.ts'],
      setupFilesAfterEnv: ['<rootDir>/test/jest/patience.cjs'],
    },
    // Sets of servers that fail over: `npm run test:cluster`. Its short form is test/integration/failover.test.ts.
    {
      ...shared,
      displayName: 'cluster',
      testMatch: ['<rootDir>/test/cluster/**/*.test.ts'],
      testTimeout: 180_000,
    },
  ],
  coverageProvider: 'v8',
  // Two files of types alone have no code: imports of them are gone once compiled, so no test loads them.
  collectCoverageFrom: [
    'libs/{contracts,lifecycle}/src/**/*.ts',
    '!**/*.spec.ts',
    '!**/index.ts',
    '!libs/lifecycle/src/{agent,execution}-store.types.ts',
  ],
  coverageThreshold: {
    './libs/contracts/src/': { branches: 100, functions: 100, lines: 100, statements: 100 },
    './libs/lifecycle/src/': { branches: 100, functions: 100, lines: 100, statements: 100 },
  },
};
