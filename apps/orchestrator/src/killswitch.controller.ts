import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, Res } from '@nestjs/common';
import { Ownership } from '#libs/access';
import {
  signatureOf,
  validateKillRequest,
  validateNoteRequest,
  type Caller,
  type Receipt,
  type Page,
} from '#libs/contracts';
import { KillswitchService, type DryRun, type LatchRelease } from '#libs/killswitch';
import type { FastifyReply } from 'fastify';
import { Who } from './http/caller';
import { QueryReader, type Query as QueryMap } from './query';

@Controller('api/killswitch')
export class KillswitchController {
  constructor(
    @Inject(KillswitchService) private readonly killswitch: KillswitchService,
    @Inject(Ownership) private readonly own: Ownership,
  ) {}

  @Post()
  async give(
    @Body() body: unknown,
    @Query() query: QueryMap,
    @Res({ passthrough: true }) reply: FastifyReply,
    @Who() caller: Caller,
  ): Promise<Receipt | DryRun> {
    const reader = new QueryReader(query);
    const dryRun = reader.flag('dryRun', false);
    const wait = reader.flag('wait', true);
    reader.done();
    const request = validateKillRequest(body);
    void reply.status(200);
    const { scope } = request;
    if (dryRun) return this.own.veiled(caller, scope, await this.killswitch.dryRun(scope));
    const order = await this.killswitch.placeOrder({ ...request, ...signatureOf(caller) });
    if (!wait) void reply.status(202);
    return this.receipt(order.id, wait, caller);
  }

  @Get()
  async list(@Query() query: QueryMap, @Who() caller: Caller): Promise<Page<Receipt>> {
    const reader = new QueryReader(query);
    const unproved = reader.flag('unproved', false);
    const page = reader.page();
    reader.done();
    const listed = await this.killswitch.orders.list({ unproved, ...page });
    return { ...listed, items: await this.own.ordersOf(caller, listed.items) };
  }

  @Get(':id')
  async get(@Param('id') id: string, @Query() query: QueryMap, @Who() caller: Caller): Promise<Receipt> {
    const reader = new QueryReader(query);
    const wait = reader.flag('wait', false);
    reader.done();
    return this.receipt(id, wait, caller);
  }

  private async receipt(id: string, wait: boolean, caller: Caller): Promise<Receipt> {
    const receipt = await (wait ? this.killswitch.waitForReceipt(id) : this.killswitch.orders.receipt(id));
    return this.own.veiled(caller, receipt.order.scope, receipt);
  }

  /** Releases the latch that came with the order. */
  @Post(':id/release')
  @HttpCode(200)
  async release(
    @Param('id') id: string,
    @Body() body: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
    @Who() caller: Caller,
  ): Promise<LatchRelease & { readonly receipt?: Receipt }> {
    const { note } = validateNoteRequest(body);
    const { order } = await this.killswitch.orders.receipt(id);
    const released = await this.killswitch.holds.release(order.latchId ?? `of order ${id}`, {
      ...signatureOf(caller),
      note,
    });
    if (released.pending !== undefined) void reply.status(202);
    return released;
  }

  @Post(':id/close')
  @HttpCode(200)
  async close(@Param('id') id: string, @Body() body: unknown, @Who() caller: Caller): Promise<Receipt> {
    const { note } = validateNoteRequest(body);
    await this.killswitch.close(id, caller.name, note, signatureOf(caller));
    return this.killswitch.orders.receipt(id);
  }
}
