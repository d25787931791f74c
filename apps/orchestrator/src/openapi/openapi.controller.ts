import { createHash } from 'node:crypto';
import { Controller, Get, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';

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
  private made: Promise<Made> | undefined;

  @Get('openapi.json')
  async document(@Res() reply: FastifyReply): Promise<void> {
    const { json } = await this.make();
    void reply.header('content-type', 'application/json; charset=utf-8').send(json);
  }

  @Get('docs')
  async page(@Res() reply: FastifyReply): Promise<void> {
    const { page, policy } = await this.make();
    void reply
      .header('content-type', 'text/html; charset=utf-8')
      .header('content-security-policy', policy)
      .send(page);
  }

  private make(): Promise<Made> {
    return (this.made ??= make());
  }
}

async function make(): Promise<Made> {
  const [{ makeDocument }, { renderPage, STYLE }] = await Promise.all([
    import('./document.js'),
    import('./page.js'),
  ]);
  const document = makeDocument();
  const style = createHash('sha256').update(STYLE).digest('base64');
  return {
    json: JSON.stringify(document),
    page: renderPage(document),
    policy: `default-src 'none'; style-src 'sha256-${style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  };
}
