import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { isTransient } from '#libs/valkey';
import type { FastifyRequest } from 'fastify';
import { retry, throwError, timer, type Observable } from 'rxjs';

/** Together about 3 s: a restart of the server, a failover. */
const TRIES = 10;
const LONGEST_MS = 500;

/** Repeats a read while the server is away for a moment, as scripts are repeated. Streams handle that themselves. */
export class RetryReadsInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { method, url, headers } = context.switchToHttp().getRequest<FastifyRequest>();
    const streams =
      url.includes('/events') || url.includes('follow=') || headers.accept === 'text/event-stream';
    if (method !== 'GET' || streams) return next.handle();
    return next.handle().pipe(
      retry({
        count: TRIES,
        delay: (error: unknown, attempt) =>
          isTransient(error) ? timer(Math.min(20 * 2 ** attempt, LONGEST_MS)) : throwError(() => error),
      }),
    );
  }
}
