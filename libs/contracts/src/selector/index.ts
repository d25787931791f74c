export { explainUnmatched, type ScopeWarning } from './explain-unmatched';
export type { Requirement } from './requirement';
export {
  formatSelector,
  parseSelector,
  selectorMatches,
  type ParsedSelector,
  type Selector,
} from './selector';
