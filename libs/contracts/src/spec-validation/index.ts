/**
 * From what was handed in to the stored form, with every problem told at once. Zod holds the shape of the spec
 * (spec-schema.ts) and the published JSON Schema is made from it; the rules between fields and nodes stand beside
 * it. The words are ours: each message says what would be right and what was found instead.
 */
export { canonicalJson, canonicalSpec, canonicalSpecInTurns } from './canonical-spec';
export { PROBLEM_CODES, type ProblemCode } from './problem-codes';
export { formatPath, ProblemList } from './problem-list';
export { showValue } from './show-value';
export { NameSuggester } from './suggest-name';
export * from './validate-questions';
export * from './validate-requests';
export * from './validate-signal';
export * from './validate-spec';
export * from './validate-token';
export { MAX_DEPTH } from './check-json';
export { specJsonSchema } from './json-schema';
export type { AgentSpecInput, ExecutionSpecInput } from './spec-schema';
