import { Controller, Get, Inject, Query } from '@nestjs/common';
import type { WorkerRecord } from '#libs/contracts';
import { LifecycleService } from '#libs/lifecycle';
import { QueryReader, type Query as QueryMap } from './query';

/** A worker that was lost longer ago is no longer reported. Milliseconds. */
const LOST_MS = 3_600_000;

@Controller('api/workers')
export class WorkersController {
  constructor(@Inject(LifecycleService) private readonly lifecycle: LifecycleService) {}

  @Get()
  async list(@Query() query: QueryMap): Promise<{ items: WorkerRecord[] }> {
    const reader = new QueryReader(query);
    const lost = reader.flag('lost', false);
    reader.done();
    const { workers } = this.lifecycle;
    return { items: await (lost ? workers.lostLately(LOST_MS) : workers.list()) };
  }
}
