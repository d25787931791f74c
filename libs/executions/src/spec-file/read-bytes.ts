import { gunzipSync } from 'node:zlib';
import { refuseFile } from './refuse-file';

/** Most bytes of a spec file once unpacked. A spec sent over HTTP is bounded by SPEC_LIMITS.maxBodyBytes besides. */
export const MAX_FILE_BYTES = 64 * 1024 * 1024;

const MIB = 1024 * 1024;

/** Text of a file's bytes: unpacked where it starts as gzip does, then strictly UTF-8, a byte order mark dropped. */
export function textOf(bytes: Uint8Array): string {
  const plain = isGzip(bytes) ? unpack(bytes) : bytes;
  if (plain.byteLength > MAX_FILE_BYTES) return refuseTooLarge();
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(plain);
  } catch {
    return refuseFile('NOT_UTF8', `the file is not UTF-8 text${whereBroken(plain)}; save it as UTF-8.`);
  }
}

/** Refuses text that is longer than a file may be, before anything is parsed. */
export function boundText(text: string): string {
  if (text.length > MAX_FILE_BYTES) return refuseTooLarge();
  return text.startsWith('\uFEFF') ? text.slice(1) : text;
}

const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b;

function unpack(bytes: Uint8Array): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: MAX_FILE_BYTES });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return refuseTooLarge();
    return refuseFile('BAD_GZIP', `the file is damaged gzip (${(error as Error).message}); pack it again.`);
  }
}

function refuseTooLarge(): never {
  return refuseFile('TOO_LARGE', `the file is larger than ${MAX_FILE_BYTES / MIB} MiB; split it up.`);
}

/** The first byte that breaks the text: a lossy decoding differs from the bytes there. */
function whereBroken(bytes: Uint8Array): string {
  const lossy = Buffer.from(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes));
  const offset = bytes.findIndex((byte, i) => byte !== lossy[i]);
  return ` (byte ${offset})`;
}
