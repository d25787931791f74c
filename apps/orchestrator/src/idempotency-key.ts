import { BelayError, SPEC_LIMITS } from '#libs/contracts';

/** Visible ASCII, with blanks inside: a proxy may change any other character. */
const KEY = new RegExp(`^[\\x20-\\x7e]{1,${SPEC_LIMITS.maxTextLength}}$`);

/** The Idempotency-Key header; undefined if it was not sent. @throws BelayError INVALID_REQUEST */
export function readIdempotencyKey(header: string | undefined): string | undefined {
  if (header === undefined || KEY.test(header)) return header;
  throw new BelayError('INVALID_REQUEST', 'The Idempotency-Key header is not valid; nothing was stored.', {
    problems: [
      {
        path: 'Idempotency-Key',
        code: 'PATTERN',
        message: `must be 1 to ${SPEC_LIMITS.maxTextLength} printable ASCII characters; it has ${header.length}.`,
      },
    ],
  });
}
