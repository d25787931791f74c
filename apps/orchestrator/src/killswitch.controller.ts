import { Body, Controller, Get, Inject, Param, Post, Query, Res } from '@nestjs/common';
import { validateKillRequest, type Receipt } from '#libs/contracts';
import { KillswitchService, type DryRun } from '#libs/killswitch';
import type { FastifyReply } from 'fastify';

@Controller('api/killswitch')
export class KillswitchController {
  constructor(@Inject(KillswitchService) private readonly killswitch: KillswitchService) {}

  @Post()
  async kill(
    @Body() body: unknown,
    @Query('wait') wait: string | undefined,
    @Query('dryRun') dryRun: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Receipt | DryRun> {
    const request = validateKillRequest(body);
    void reply.status(200);
    if (dryRun !== undefined && dryRun !== '0') return this.killswitch.dryRun(request.scope);
    const order = await this.killswitch.kill({ ...request, by: 'api' });
    if (wait !== '0') return this.killswitch.waitForReceipt(order.id);
    void reply.status(202);
    return this.killswitch.orders.receipt(order.id);
  }

  @Get()
  async list(): Promise<{ items: Receipt[] }> {
    return { items: await this.killswitch.orders.list() };
  }

  @Get(':id')
  async get(@Param('id') id: string): Promise<Receipt> {
    return this.killswitch.orders.receipt(id);
  }
}
