import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, Req, Res } from '@nestjs/common';
import { Ownership } from '#libs/access';
import {
  AGENT_MACHINE,
  isEnded,
  signatureOf,
  statesOf,
  validateStopRequest,
  type AgentRecord,
  type Caller,
  type Receipt,
  type Page,
} from '#libs/contracts';
import { KillswitchService } from '#libs/killswitch';
import { LifecycleService } from '#libs/lifecycle';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { pageOfAgents } from './agent-page';
import { Who } from './http/caller';
import { streamLog } from './log-stream';
import { EventStreams } from './event-streams';
import { QueryReader, type Query as QueryMap } from './query';
import { readLastEventId } from './sse';

@Controller('api/agents')
export class AgentsController {
  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(KillswitchService) private readonly killswitch: KillswitchService,
    @Inject(EventStreams) private readonly streams: EventStreams,
    @Inject(Ownership) private readonly own: Ownership,
  ) {}

  @Get()
  async list(@Query() query: QueryMap, @Who() caller: Caller): Promise<Page<AgentRecord>> {
    const reader = new QueryReader(query);
    const states = reader.list('state', statesOf(AGENT_MACHINE));
    const owner = reader.text('owner');
    const executionId = reader.text('executionId');
    const asked = reader.page(10_000);
    reader.done();
    const { agents, truncated } = await this.lifecycle.agents.search({
      ...(states === undefined ? {} : { states }),
      ...(owner === undefined ? {} : { owner }),
      ...(executionId === undefined ? {} : { executionId }),
    });
    const own = agents.filter((agent) => this.own.ownsRecord(caller, agent));
    const page = pageOfAgents(own, asked);
    return truncated && page.nextCursor === undefined ? { ...page, truncated } : page;
  }

  @Get(':id')
  async get(@Param('id') id: string): Promise<AgentRecord> {
    return this.lifecycle.agents.get(id);
  }

  @Post(':id/kill')
  @HttpCode(200)
  async kill(@Param('id') id: string, @Body() body: unknown, @Who() caller: Caller): Promise<Receipt> {
    const request = validateStopRequest(body ?? {});
    const order = await this.killswitch.placeOrder({
      ...request,
      scope: { type: 'agent', agentId: id },
      ...signatureOf(caller),
    });
    return this.killswitch.waitForReceipt(order.id);
  }

  @Get(':id/logs')
  async logs(
    @Param('id') id: string,
    @Query() query: QueryMap,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const reader = new QueryReader(query);
    const follow = reader.flag('follow', false);
    reader.done();
    const { executionId, state } = await this.lifecycle.agents.get(id);
    if (follow) {
      const lastId = readLastEventId(request);
      const stream = this.streams.open(reply);
      await streamLog(this.lifecycle, stream, {
        executionId,
        agentId: id,
        ...(lastId === undefined ? {} : { lastId }),
        closing: this.streams.closing,
      });
      return;
    }
    const logs = await this.lifecycle.logs.read(executionId, id);
    // The first lines are sent before the end is stored, so an ended agent without a log wrote nothing.
    const isSilent = logs.total.lines === 0 && isEnded(AGENT_MACHINE, state);
    void reply.send({ ...logs, ended: logs.ended || isSilent });
  }
}
