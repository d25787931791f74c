import { createHash, timingSafeEqual } from 'node:crypto';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { BelayError } from '#libs/contracts';
import type { FastifyRequest } from 'fastify';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** A token on every call but health, on loopback too: a web page can reach loopback. Compared in constant time. */
export class TokenGuard implements CanActivate {
  private readonly expected: Buffer;

  constructor(token: string) {
    this.expected = digest(token);
  }

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<FastifyRequest>();
    if (request.url.split('?')[0]?.match(/^\/health(\/live|\/ready)?$/)) return true;
    const given = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1];
    if (given !== undefined && timingSafeEqual(digest(given), this.expected)) return true;
    throw new BelayError(
      'UNAUTHORIZED',
      'A valid token is needed: Authorization: Bearer TOKEN. It is in the file "token" of the data directory.',
    );
  }
}
