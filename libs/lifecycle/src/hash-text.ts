import { createHash } from 'node:crypto';
import { turn } from '#libs/valkey';

/** Characters hashed in one step. */
const STEP = 1_000_000;

/** SHA-256 of a text of any length, in hex, a step at a time. */
export async function hashText(text: string): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < text.length;) {
    if (at > 0) await turn();
    let end = Math.min(text.length, at + STEP);
    // A step must not split a surrogate pair: its halves, encoded apart, would be two other characters.
    const last = text.charCodeAt(end - 1);
    if (last >= 0xd800 && last <= 0xdbff) end = Math.min(text.length, end + 1);
    hash.update(text.slice(at, end));
    at = end;
  }
  return hash.digest('hex');
}
