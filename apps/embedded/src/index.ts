/** Belay as a library: docs/embedding.md. Everything that this entry point of the package does not export may change. */
export { buildBelay, buildInMemoryBelay, type Belay, type StopResult } from './belay';
export * from './both-doors';
export type { BelayOptions, EmbeddedHttp, InMemoryBelayOptions } from './embedded-options';
