import { constants } from 'node:os';
import { encodeStrings, NativeError, type SpawnPlan } from '../native';
import type { GuardianMessage, StartOrder } from './guardian-protocol';

/** The kernel accepts no more arguments and variables than this together, whatever the limit of the stack (man 2 execve). */
const MOST_BYTES = 6 * 1024 * 1024;
const NEWLINE = 0x0a;
const NONE = Buffer.alloc(0);

/** A start as it goes to the guardian: a line, and after it the strings as bytes, which in JSON could be six times as long. */
export interface EncodedStart {
  readonly order: Omit<StartOrder, 'id'>;
  readonly strings: Buffer;
}

/** @throws NativeError E2BIG for a size that no system accepts: the guardian must not be kept busy with it. */
export function encodeStart(plan: Omit<SpawnPlan, 'fds'>): EncodedStart {
  const { file, cwd, argv, env } = plan;
  // A character takes at least one byte, so a text that is far too long is not even copied.
  let characters = 0;
  for (const text of argv) characters += text.length + 1;
  for (const [name, value] of Object.entries(env)) characters += name.length + value.length + 2;
  const encoded = characters > MOST_BYTES ? undefined : encodeStrings(plan);
  if (encoded === undefined || encoded.strings.length > MOST_BYTES)
    throw new NativeError('execve', constants.errno.E2BIG);
  const { strings, args } = encoded;
  return { order: { file, cwd, args, bytes: strings.length }, strings };
}

/** Splits the worker's bytes into messages for its guardian. Each byte is copied once, however long a message is. */
export class MessageReader {
  #line: Buffer[] = [];
  #due: (GuardianMessage & { readonly type: 'start' }) | undefined;
  #strings = NONE;
  #have = 0;

  /** @param onMessage gets the strings of a start too. */
  constructor(private readonly onMessage: (message: GuardianMessage, strings: Buffer) => void) {}

  /** @param chunk may be reused after the call. */
  write(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;)
      at += this.#due === undefined ? this.#text(chunk, at) : this.#fill(chunk, at);
  }

  /** @returns how many bytes it consumed. */
  #text(chunk: Buffer, at: number): number {
    const newline = chunk.indexOf(NEWLINE, at);
    const piece = Buffer.from(chunk.subarray(at, newline < 0 ? undefined : newline));
    this.#line.push(piece);
    if (newline < 0) return piece.length;
    const line = this.#line.length === 1 ? piece : Buffer.concat(this.#line);
    this.#line = [];
    this.#take(JSON.parse(line.toString()) as GuardianMessage);
    return piece.length + 1;
  }

  #take(message: GuardianMessage): void {
    if (message.type !== 'start') return this.onMessage(message, NONE);
    this.#due = message;
    this.#strings = Buffer.allocUnsafe(message.bytes);
    this.#have = 0;
  }

  #fill(chunk: Buffer, at: number): number {
    const { length } = this.#strings;
    const taken = chunk.copy(this.#strings, this.#have, at);
    this.#have += taken;
    if (this.#have < length || this.#due === undefined) return taken;
    const [message, strings] = [this.#due, this.#strings];
    this.#due = undefined;
    this.#strings = NONE;
    this.onMessage(message, strings);
    return taken;
  }
}
