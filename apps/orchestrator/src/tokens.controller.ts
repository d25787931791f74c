import { Body, Controller, Get, HttpCode, Inject, Param, Post } from '@nestjs/common';
import { TokenStore } from '#libs/access';
import {
  signatureOf,
  validateTokenRequest,
  type Caller,
  type CreatedToken,
  type RevokedToken,
  type TokenRecord,
} from '#libs/contracts';
import { Who } from './http/caller';

/** Named tokens (docs/tokens.md). */
@Controller('api/tokens')
export class TokensController {
  constructor(@Inject(TokenStore) private readonly tokens: TokenStore) {}

  @Get()
  async list(): Promise<{ items: TokenRecord[] }> {
    return { items: await this.tokens.list() };
  }

  @Post()
  async create(@Body() body: unknown, @Who() caller: Caller): Promise<CreatedToken> {
    return this.tokens.create(validateTokenRequest(body), signatureOf(caller));
  }

  @Post(':name/revoke')
  @HttpCode(200)
  async revoke(@Param('name') name: string, @Who() caller: Caller): Promise<RevokedToken> {
    return this.tokens.revoke(name, signatureOf(caller));
  }
}
