import { Body, Controller, Get, HttpCode, Inject, Param, Post, Res } from '@nestjs/common';
import { Ownership } from '#libs/access';
import {
  signatureOf,
  validateLatchRequest,
  validateNoteRequest,
  type Caller,
  type Latch,
  type Receipt,
} from '#libs/contracts';
import { KillswitchService, type LatchRelease } from '#libs/killswitch';
import type { FastifyReply } from 'fastify';
import { Who } from './http/caller';

@Controller('api/latches')
export class LatchesController {
  constructor(
    @Inject(KillswitchService) private readonly killswitch: KillswitchService,
    @Inject(Ownership) private readonly own: Ownership,
  ) {}

  @Post()
  async engage(@Body() body: unknown, @Who() caller: Caller): Promise<Latch> {
    const request = validateLatchRequest(body);
    const latch = await this.killswitch.engage({ ...request, ...signatureOf(caller) });
    return this.own.veiled(caller, request.scope, latch);
  }

  @Get()
  async list(@Who() caller: Caller): Promise<{ items: Latch[] }> {
    return { items: await this.own.latchesOf(caller, await this.killswitch.latches.list()) };
  }

  @Get(':id')
  async get(@Param('id') id: string): Promise<Latch> {
    return this.killswitch.latches.get(id);
  }

  @Post(':id/release')
  @HttpCode(200)
  async release(
    @Param('id') id: string,
    @Body() body: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
    @Who() caller: Caller,
  ): Promise<LatchRelease & { readonly receipt?: Receipt }> {
    const { note } = validateNoteRequest(body);
    const released = await this.killswitch.holds.release(id, { ...signatureOf(caller), note });
    if (released.pending !== undefined) void reply.status(202);
    return released;
  }
}
