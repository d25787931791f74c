import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, Res } from '@nestjs/common';
import {
  validateKillRequest,
  validateNoteRequest,
  type AuditEntry,
  type AuditVerdict,
  type Latch,
  type Receipt,
} from '#libs/contracts';
import { AuditStore, KillswitchService, type DryRun } from '#libs/killswitch';
import type { Page } from '#libs/lifecycle';
import type { FastifyReply } from 'fastify';
import { QueryReader, type Query as QueryMap } from './query';
import { TakesQuery } from './query.guard';

@Controller('api')
export class KillswitchController {
  constructor(
    @Inject(KillswitchService) private readonly killswitch: KillswitchService,
    @Inject(AuditStore) private readonly audit: AuditStore,
  ) {}

  @Post('killswitch')
  @TakesQuery('wait', 'dryRun')
  async give(
    @Body() body: unknown,
    @Query() query: QueryMap,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Receipt | DryRun> {
    const reader = new QueryReader(query);
    const dryRun = reader.flag('dryRun', false);
    const wait = reader.flag('wait', true);
    reader.done();
    const request = validateKillRequest(body);
    void reply.status(200);
    if (dryRun) return this.killswitch.dryRun(request.scope);
    const order = await this.killswitch.placeOrder({ ...request, by: 'api' });
    if (wait) return this.killswitch.waitForReceipt(order.id);
    void reply.status(202);
    return this.killswitch.orders.receipt(order.id);
  }

  @Get('killswitch')
  @TakesQuery('unproved', 'cursor', 'limit')
  async list(@Query() query: QueryMap): Promise<Page<Receipt>> {
    const reader = new QueryReader(query);
    const unproved = reader.flag('unproved', false);
    const page = reader.page();
    reader.done();
    return this.killswitch.orders.list({ unproved, ...page });
  }

  @Get('killswitch/:id')
  @TakesQuery('wait')
  async get(@Param('id') id: string, @Query() query: QueryMap): Promise<Receipt> {
    const reader = new QueryReader(query);
    const wait = reader.flag('wait', false);
    reader.done();
    return wait ? this.killswitch.waitForReceipt(id) : this.killswitch.orders.receipt(id);
  }

  /** Of the latch the order was given with. */
  @Post('killswitch/:id/release')
  @HttpCode(200)
  async release(
    @Param('id') id: string,
    @Body() body: unknown,
  ): Promise<{ latch: Latch; already: boolean; receipt?: Receipt }> {
    const { note } = validateNoteRequest(body);
    const { order } = await this.killswitch.orders.receipt(id);
    return this.killswitch.holds.release(order.latchId ?? `of order ${id}`, { by: 'api', note });
  }

  @Post('killswitch/:id/close')
  @HttpCode(200)
  async close(@Param('id') id: string, @Body() body: unknown): Promise<Receipt> {
    const { note } = validateNoteRequest(body);
    await this.killswitch.close(id, 'api', note);
    return this.killswitch.orders.receipt(id);
  }

  @Get('audit')
  @TakesQuery('cursor', 'limit')
  async log(@Query() query: QueryMap): Promise<Page<AuditEntry>> {
    const reader = new QueryReader(query);
    const page = reader.page(10_000);
    reader.done();
    return this.audit.list(page);
  }

  @Get('audit/verify')
  async verify(): Promise<AuditVerdict> {
    return this.audit.verify();
  }
}
