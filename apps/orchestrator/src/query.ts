import { BelayError, parseSelector, type Problem, type Selector } from '#libs/contracts';

export type Query = Readonly<Record<string, string | string[] | undefined>>;

/** Reads query parameters, and reports every fault at once. */
export class QueryReader {
  private readonly problems: Problem[] = [];

  constructor(private readonly query: Query) {}

  text(name: string): string | undefined {
    const value = this.query[name];
    return Array.isArray(value) ? value[0] : value;
  }

  all(name: string): string[] {
    const value = this.query[name];
    return value === undefined ? [] : Array.isArray(value) ? value : [value];
  }

  /** A comma-separated list of some of `choices`. */
  list<T extends string>(name: string, choices: readonly T[]): T[] | undefined {
    const parts = this.text(name)
      ?.split(',')
      .filter((part) => part !== '');
    const unknown = parts?.filter((part) => !choices.includes(part as T)) ?? [];
    for (const part of unknown) {
      this.problems.push({
        path: name,
        code: 'UNKNOWN_VALUE',
        message: `${part} is none of ${choices.join(', ')}.`,
      });
    }
    return parts as T[] | undefined;
  }

  /** `?name`, `1`, `true`: yes. `0`, `false`: no. */
  flag(name: string, fallback: boolean): boolean {
    const text = this.text(name);
    if (text === undefined) return fallback;
    if (['', '1', 'true'].includes(text)) return true;
    if (!['0', 'false'].includes(text))
      this.problems.push({
        path: name,
        code: 'ONE_OF',
        message: `must be 1, true, 0 or false; it is ${text}.`,
      });
    return false;
  }

  /** Conditions on labels, in the syntax of selectors; may be repeated, and all must be met. */
  selector(name: string): Selector {
    return this.all(name).flatMap((text) => {
      const { selector = [], problems = [] } = parseSelector(text);
      for (const problem of problems) this.problems.push({ path: name, ...problem });
      return selector;
    });
  }

  private limit(max = 1_000): number | undefined {
    const text = this.text('limit');
    if (text === undefined) return undefined;
    const value = Number(text);
    if (Number.isInteger(value) && value >= 1 && value <= max) return value;
    this.problems.push({
      path: 'limit',
      code: 'OUT_OF_RANGE',
      message: `limit must be a whole number from 1 to ${max}.`,
    });
    return undefined;
  }

  /** The start of a page and its size; the list checks the cursor. */
  page(max?: number): { readonly cursor?: string; readonly limit?: number } {
    const cursor = this.text('cursor');
    const limit = this.limit(max);
    return { ...(cursor === undefined ? {} : { cursor }), ...(limit === undefined ? {} : { limit }) };
  }

  /** @throws BelayError INVALID_REQUEST with every fault */
  done(): void {
    if (this.problems.length === 0) return;
    throw new BelayError('INVALID_REQUEST', 'The query is not valid.', { problems: this.problems });
  }
}
