import type { Requirement } from './parse-requirement';
import type { Selector } from './selector';

/**
 * Whether all labels that meet `inner` also meet `outer`, as far as the conditions show it: each condition of `outer` follows
 * from one of `inner`. True is always right. False may be wrong where only several conditions together exclude the rest.
 */
export function selectorWithin(inner: Selector, outer: Selector): boolean {
  return outer.every((wanted) => inner.some((given) => follows(given, wanted)));
}

/** Whether labels that meet `given` meet `wanted`. */
function follows(given: Requirement, wanted: Requirement): boolean {
  if (given.key !== wanted.key) return false;
  switch (wanted.op) {
    case 'absent':
      return given.op === 'absent';
    case 'exists':
      return given.op === 'exists' || given.op === 'in';
    case 'in':
      return given.op === 'in' && given.values.every((value) => wanted.values.includes(value));
    case 'notin':
      if (given.op === 'absent') return true;
      if (given.op === 'in') return given.values.every((value) => !wanted.values.includes(value));
      return given.op === 'notin' && wanted.values.every((value) => given.values.includes(value));
  }
}
