import { LABEL_KEY_PATTERN } from '../spec-validation/fields';
import { showValue } from '../spec-validation/show-value';

/** One condition on a label. `notin` is also met where the label is absent, and so does `key!=value`. */
export type Requirement =
  | { readonly key: string; readonly op: 'in' | 'notin'; readonly values: readonly string[] }
  | { readonly key: string; readonly op: 'exists' }
  | { readonly key: string; readonly op: 'absent' };

const SHAPES = 'key=value, key!=value, key in (a,b), key notin (a,b), key or !key';
const KEY = '[A-Za-z0-9_./-]+';
const VALUE = String.raw`[A-Za-z0-9_./:@+-]+|"(?:[^"\\]|\\.)*"`;
const BARE = new RegExp(`^(!?)\\s*(${KEY})$`);
const EQUALS = new RegExp(`^(${KEY})\\s*(==?|!=)\\s*(${VALUE})$`);
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(\\s*((?:${VALUE})(?:\\s*,\\s*(?:${VALUE}))*)\\s*\\)$`);

/** One condition, or a sentence that says what is wrong with it. */
export function parseRequirement(text: string): Requirement | string {
  const wrong = `has ${showValue(text)}, which is none of ${SHAPES}.`;
  const [, not, bareKey] = BARE.exec(text) ?? [];
  const [, equalsKey, sign, value] = EQUALS.exec(text) ?? [];
  const [, setKey, word, list] = SET.exec(text) ?? [];
  const key = bareKey ?? equalsKey ?? setKey;
  if (key === undefined || !LABEL_KEY_PATTERN.test(key)) return wrong;
  try {
    if (bareKey !== undefined) return { key, op: not === '!' ? 'absent' : 'exists' };
    if (value !== undefined) return { key, op: sign === '!=' ? 'notin' : 'in', values: [unquote(value)] };
    const values = [...(list as string).matchAll(new RegExp(VALUE, 'g'))].map(([one]) => unquote(one));
    return { key, op: word as 'in' | 'notin', values: [...new Set(values)] };
  } catch {
    return wrong; // an escape that JSON does not have
  }
}

function unquote(value: string): string {
  return value.startsWith('"') ? (JSON.parse(value) as string) : value;
}
