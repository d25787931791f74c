export { explainUnmatched, type ScopeWarning } from './explain-unmatched';
export type { Requirement } from './parse-requirement';
export {
  formatSelector,
  parseSelector,
  selectorMatches,
  type ParsedSelector,
  type Selector,
} from './selector';
export { selectorWithin } from './selector-within';
