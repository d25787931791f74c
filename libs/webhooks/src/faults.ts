import { NameSuggester, type Problem, showValue } from '#libs/contracts';

export type Fields = Readonly<Record<string, unknown>>;

/** Gathers the faults of one file. */
export class Faults {
  readonly problems: Problem[] = [];
  private readonly suggester = new NameSuggester();

  add(path: string, code: string, message: string): undefined {
    this.problems.push({ path, code, message });
  }

  /** The known name that was most likely meant, as the end of a message. */
  hint(wrong: string, known: readonly string[]): string {
    const near = this.suggester.nearest(wrong, known);
    return near === undefined ? `the known ones are ${known.join(', ')}.` : `did you mean ${near}?`;
  }

  /** The value as an object; undefined, with a fault, where it is none. Unknown fields are faults. */
  object(path: string, value: unknown, known: readonly string[]): Fields | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return this.add(path, 'TYPE', `must be an object; it is ${showValue(value)}.`);
    for (const name of Object.keys(value)) {
      if (known.includes(name)) continue;
      const at = path === '' ? name : `${path}.${name}`;
      this.add(at, 'UNKNOWN_FIELD', `there is no such field; ${this.hint(name, known)}`);
    }
    return value as Fields;
  }
}
