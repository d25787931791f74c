import { type Problem } from '../errors';
import { SPEC_LIMITS } from '../spec';
import { type ProblemCode } from './problem-codes';

/** The place of a value: field names and list positions from the root. */
export type Path = readonly (string | number)[];

const PLAIN_NAME = /^[A-Za-z_$][\w$]*$/;

/** A path in the form for people: `nodes[3].dependsOn[0]`, `labels["a b"]`; empty for the root. */
export function formatPath(path: Path): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (PLAIN_NAME.test(part)) text += text === '' ? part : `.${part}`;
    else text += `[${JSON.stringify(part)}]`;
  }
  return text;
}

/**
 * Collects problems, lists the first `SPEC_LIMITS.maxProblems` and only counts the others. So a hostile spec of 100,000 bad
 * nodes costs a count each, and not a sentence each. For the same reason messages may be functions.
 */
export class ProblemList {
  private readonly listed: Problem[] = [];
  private total = 0;

  /** How many problems were found, listed or not. */
  get count(): number {
    return this.total;
  }

  add(path: Path, code: ProblemCode, message: string | (() => string)): void {
    this.total += 1;
    if (this.listed.length >= SPEC_LIMITS.maxProblems) return;
    const text = typeof message === 'string' ? message : message();
    this.listed.push({ path: formatPath(path), code, message: text });
  }

  /** The listed problems, then one with the number of the others, if any. */
  toArray(): Problem[] {
    const more = this.total - this.listed.length;
    if (more === 0) return [...this.listed];
    const message = `${more} more ${more === 1 ? 'problem is' : 'problems are'} not listed; repair these first.`;
    return [...this.listed, { path: '', code: 'TOO_MANY_PROBLEMS', message }];
  }
}
