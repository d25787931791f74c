/**
 * Belay for the tests of a Nest application: docs/embedding.md. The door `belayd/testing` of the package; what it does not
 * name may change.
 */
export { BelayTestingModule, type BelayTestingOptions, type TestingBuilder } from './belay-testing.module';
