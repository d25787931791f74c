import { Controller, Get, Inject, Query, Req, Res } from '@nestjs/common';
import { EVENT_ENTITIES, EVENT_STATES, EVENT_TYPES, type Caller } from '#libs/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { readCursor } from './fleet-cursor';
import { FleetEvents } from './fleet-events';
import { streamFleet } from './fleet-stream';
import { Who } from './http/caller';
import { EventStreams } from './event-streams';
import { QueryReader, type Query as QueryMap } from './query';
import { LifecycleService } from '#libs/lifecycle';

/** The events of all executions. */
@Controller('api/events')
export class EventsController {
  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(FleetEvents) private readonly fleet: FleetEvents,
    @Inject(EventStreams) private readonly streams: EventStreams,
  ) {}

  @Get()
  async follow(
    @Query() query: QueryMap,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
    @Who() caller: Caller,
  ): Promise<void> {
    const reader = new QueryReader(query);
    const types = reader.list('type', [...EVENT_ENTITIES, ...EVENT_TYPES]);
    const states = reader.list('state', EVENT_STATES);
    const labels = reader.selector('label');
    reader.done();
    const after = readCursor(request, this.lifecycle.valkey.keys.shards);
    const view = await this.fleet.join();
    const stream = this.streams.open(reply);
    await streamFleet(view, stream, {
      filter: {
        ...(types === undefined ? {} : { types }),
        ...(states === undefined ? {} : { states }),
        // The token's own labels, then those that were asked for: an event must meet all.
        selector: [...(caller.selector ?? []), ...labels],
      },
      ...(after === undefined ? {} : { after }),
      closing: this.streams.closing,
    });
  }
}
