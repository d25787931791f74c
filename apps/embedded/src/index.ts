/**
 * Belay as a library: docs/embedding.md. The door of the package; what it does not name may change.
 */
export { buildBelay, buildInMemoryBelay, type Belay, type StopResult } from './belay';
export * from './both-doors';
export type { BelayOptions, EmbeddedHttp, InMemoryBelayOptions } from './embedded-options';
