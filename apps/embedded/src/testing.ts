/**
 * Belay for the tests of a Nest application: docs/embedding.md. Everything that this entry point, `belayd/testing`, does not
 * export may change.
 */
export { BelayTestingModule, type BelayTestingOptions, type TestingBuilder } from './belay-testing.module';
