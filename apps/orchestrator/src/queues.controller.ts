import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query } from '@nestjs/common';
import {
  requirePool,
  signatureOf,
  validateQueuePause,
  validateRemoveRequest,
  type Caller,
  type QueueDetail,
  type QueuePaused,
  type QueueRecord,
  type QueueRemoval,
} from '#libs/contracts';
import { PoolQueues } from '#libs/killswitch';
import { Who } from './http/caller';
import { QueryReader, type Query as QueryMap } from './query';

/** The queues of pools (docs/http-api.md#queues). */
@Controller('api/queues')
export class QueuesController {
  constructor(@Inject(PoolQueues) private readonly queues: PoolQueues) {}

  @Get()
  async list(): Promise<{ items: QueueRecord[] }> {
    return { items: await this.queues.list() };
  }

  @Get(':pool')
  async get(@Param('pool') pool: string): Promise<QueueDetail> {
    return this.queues.get(requirePool(pool));
  }

  @Post(':pool/pause')
  @HttpCode(200)
  async pause(
    @Param('pool') pool: string,
    @Body() body: unknown,
    @Who() caller: Caller,
  ): Promise<QueuePaused> {
    return this.queues.pause(requirePool(pool), { ...validateQueuePause(body), ...signatureOf(caller) });
  }

  @Post(':pool/resume')
  @HttpCode(200)
  async resume(
    @Param('pool') pool: string,
    @Body() body: unknown,
    @Who() caller: Caller,
  ): Promise<QueuePaused> {
    return this.queues.resume(requirePool(pool), { ...validateQueuePause(body), ...signatureOf(caller) });
  }

  @Post(':pool/remove')
  @HttpCode(200)
  async remove(
    @Param('pool') pool: string,
    @Body() body: unknown,
    @Query() query: QueryMap,
    @Who() caller: Caller,
  ): Promise<QueueRemoval> {
    const reader = new QueryReader(query);
    const isDry = reader.flag('dryRun', false);
    reader.done();
    return this.queues.remove(requirePool(pool), validateRemoveRequest(body), {
      ...signatureOf(caller),
      isDry,
    });
  }
}
