/**
 * From a submitted value to the stored form, with every problem reported at once. Zod has the shape of the spec
 * (spec-schema.ts), from which the published JSON Schema is made. The rules between fields and nodes are beside it. The
 * messages are Belay's: each says what would be right and what was found.
 */
export { canonicalJson, canonicalSpec, canonicalSpecInTurns } from './canonical-spec';
export { PROBLEM_CODES, type ProblemCode } from './problem-codes';
export { formatPath, ProblemList } from './problem-list';
export { showValue } from './show-value';
export { NameSuggester } from './suggest-name';
export { requestSchemas, type RequestName } from './request-schemas';
export * from './validate-questions';
export * from './validate-requests';
export * from './validate-signal';
export * from './validate-spec';
export * from './validate-token';
export { MAX_DEPTH } from './check-json';
export { specJsonSchema } from './json-schema';
export type { AgentSpecInput, ExecutionSpecInput } from './spec-schema';
