export {
  formatSelector,
  parseSelector,
  selectorMatches,
  type ParsedSelector,
  type Requirement,
  type Selector,
} from './selector';
