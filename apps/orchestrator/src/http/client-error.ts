import type { Socket } from 'node:net';

/** An error that Node found before there was a request to route. */
interface ClientError extends Error {
  readonly code?: string;
}

const HEADER_BYTES = 16 * 1024;

/** Answers input that is no HTTP, too slow or too long, in the form of every other error. Then closes the connection. */
export function answerClientError(error: ClientError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const { status, phrase, code, detail } = problemOf(error.code);
  const body = JSON.stringify({ type: 'about:blank', title: phrase, status, code, detail });
  const lines = [
    `HTTP/1.1 ${status} ${phrase}`,
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  if (socket.writable) socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`);
  socket.destroy(error);
}

function problemOf(code: string | undefined): {
  status: number;
  phrase: string;
  code: string;
  detail: string;
} {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return {
      status: 408,
      phrase: 'Request Timeout',
      code: 'TIMEOUT',
      detail: 'The request took too long to arrive (BELAY_REQUEST_TIMEOUT_MS). Nothing was done.',
    };
  if (code === 'HPE_HEADER_OVERFLOW')
    return {
      status: 431,
      phrase: 'Request Header Fields Too Large',
      code: 'INVALID_REQUEST',
      detail: `The head of the request is larger than ${HEADER_BYTES} bytes.`,
    };
  return {
    status: 400,
    phrase: 'Bad Request',
    code: 'INVALID_REQUEST',
    detail: 'The request is not HTTP/1.1.',
  };
}
