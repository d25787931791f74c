import { createHash } from 'node:crypto';
import { Controller, Get, Header, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type * as Document from './document';
import type * as Page from './page';

interface Made {
  readonly json: string;
  readonly page: string;
  readonly policy: string;
}

/**
 * The HTTP interface, described for programs and for people (docs/http-api.md#the-document). Both need no token: they say nothing
 * of the fleet, and a browser sends none. They are made at the first request, so that a start loads and makes nothing.
 */
@Controller('api')
export class OpenApiController {
  private made: Made | undefined;

  @Get('openapi.json')
  @Header('content-type', 'application/json; charset=utf-8')
  document(): string {
    return this.make().json;
  }

  @Get('docs')
  @Header('content-type', 'text/html; charset=utf-8')
  page(@Res({ passthrough: true }) reply: FastifyReply): string {
    const { page, policy } = this.make();
    void reply.header('content-security-policy', policy);
    return page;
  }

  private make(): Made {
    return (this.made ??= make());
  }
}

function make(): Made {
  const { makeDocument } = require('./document') as typeof Document;
  const { renderPage, STYLE } = require('./page') as typeof Page;
  const document = makeDocument();
  const style = createHash('sha256').update(STYLE).digest('base64');
  return {
    json: JSON.stringify(document),
    page: renderPage(document),
    policy: `default-src 'none'; style-src 'sha256-${style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  };
}
