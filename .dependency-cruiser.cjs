'use strict';
/**
 * Import rules by resolved path, checked by `npm run arrows`. docs/architecture.md explains the layers;
 * test/integration/arrows.test.ts plants a violation of each rule and sees it reported.
 */

const layers = require('./scripts/lib/layers.cjs');

/** Specs stand beside their source and may use what tests use. */
const SPEC = '\\.spec\\.ts$';

const layer = (library, allowed) => ({
  name: `layer-${library}`,
  comment: `libs/${library} imports only ${allowed.map((name) => `libs/${name}`).join(', ') || 'itself'} of ours.`,
  severity: 'error',
  from: { path: `^libs/${library}/`, pathNot: SPEC },
  to: { path: '^(libs|apps)/', pathNot: `^libs/(${[library, ...allowed].join('|')})/` },
});

const onlyIn = (name, packages, path, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: '^(libs|apps)/', pathNot: [path, SPEC] },
  to: { path: packages.map((one) => `node_modules/${one}/`) },
});

module.exports = {
  forbidden: [
    {
      name: 'no-circles',
      comment: 'Files that import each other cannot be read one at a time.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    ...Object.entries(layers).map(([library, { imports }]) => layer(library, imports)),
    {
      name: 'one-door',
      comment: "A library's index.ts is its only door: import '#libs/NAME'.",
      severity: 'error',
      from: { path: '^(?:libs|apps|bench)/([^/]+)/', pathNot: SPEC },
      to: { path: '^libs/[^/]+/', pathNot: ['^libs/[^/]+/src/index\\.ts$', '^libs/$1/'] },
    },
    {
      name: 'programs-apart',
      comment: 'One program does not know another; only apps/embedded puts two together.',
      severity: 'error',
      from: { path: '^apps/(?!embedded/)([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'contracts-pure',
      comment:
        'libs/contracts does no I/O and knows no framework: of packages it imports zod, of Node nothing.',
      severity: 'error',
      from: { path: '^libs/contracts/', pathNot: SPEC },
      to: { dependencyTypesNot: ['local', 'type-only'], pathNot: '^(libs/contracts/|node_modules/zod/)' },
    },
    onlyIn('bullmq-in-dispatch', ['bullmq'], '^libs/dispatch/', 'Only libs/dispatch knows BullMQ.'),
    onlyIn('ioredis-in-valkey', ['ioredis'], '^libs/valkey/', 'Only libs/valkey knows ioredis.'),
    onlyIn(
      'nest-not-in-client',
      ['@nestjs/[^/]+'],
      '^(libs/(?!client/|contracts/|service/)|apps/)',
      'Clients, contracts and the process around a service work without Nest.',
    ),
    {
      name: 'no-tests-in-the-product',
      comment: 'What is shipped imports no test code.',
      severity: 'error',
      from: { path: '^(libs|apps)/', pathNot: SPEC },
      to: { path: '^(test|bench)/|\\.spec\\.ts$' },
    },
    {
      name: 'resolvable',
      comment: 'An import that leads nowhere is seen by no other rule.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    parser: 'swc',
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    enhancedResolveOptions: {
      // '#libs/NAME' leads to the source for tools and to dist/ for Node: see "imports" in package.json.
      conditionNames: ['belay-source', 'import', 'require', 'node', 'default', 'types'],
      exportsFields: ['exports'],
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json'],
    },
  },
};
