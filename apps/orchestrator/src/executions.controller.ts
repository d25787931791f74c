import {
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  HttpCode,
  Inject,
  Param,
  Post,
  Query,
  Req,
  Res,
} from '@nestjs/common';
import { Ownership } from '#libs/access';
import {
  actorOf,
  BelayError,
  EXECUTION_MACHINE,
  isEnded,
  NODE_MACHINE,
  requireSignal,
  signatureOf,
  statesOf,
  validatePauseRequest,
  validateRetryRequest,
  validateSignal,
  validateStopRequest,
  type AgentSpecInput,
  type Caller,
  type DeletedExecution,
  type ExecutionRecord,
  type ExecutionSpecInput,
  type NodeRecord,
  type Receipt,
  type Signalled,
  type StopResponse,
  type Page,
} from '#libs/contracts';
import { ExecutionManager } from '#libs/executions';
import { KillswitchService } from '#libs/killswitch';
import { LifecycleService } from '#libs/lifecycle';
import { Attendance, Deletions, OrchestratorService } from '#libs/orchestrator';
import { ChangeFeed } from '#libs/valkey';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { streamExecution } from './execution-events';
import { Who } from './http/caller';
import { readIdempotencyKey } from './idempotency-key';
import { EventStreams } from './event-streams';
import { QueryReader, type Query as QueryMap } from './query';
import { readLastEventId } from './sse';

@Controller('api')
export class ExecutionsController {
  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(ExecutionManager) private readonly manager: ExecutionManager,
    @Inject(KillswitchService) private readonly killswitch: KillswitchService,
    @Inject(ChangeFeed) private readonly feed: ChangeFeed,
    @Inject(OrchestratorService) private readonly orchestrator: OrchestratorService,
    @Inject(Deletions) private readonly deletions: Deletions,
    @Inject(Attendance) private readonly attendance: Attendance,
    @Inject(EventStreams) private readonly streams: EventStreams,
    @Inject(Ownership) private readonly own: Ownership,
  ) {}

  @Post('executions')
  async create(
    @Body() body: unknown,
    @Query() query: QueryMap,
    @Headers('idempotency-key') key: string | undefined,
    @Headers('traceparent') traceparent: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
    @Who() caller: Caller,
  ): Promise<ExecutionRecord> {
    this.orchestrator.assertAdmitting();
    const idempotencyKey = readIdempotencyKey(key);
    const reader = new QueryReader(query);
    const start = reader.flag('start', true);
    const whenLimited = reader.flag('queue', true) ? 'queue' : 'refuse';
    reader.done();
    const { execution, created } = await this.manager
      .submit(body as ExecutionSpecInput, {
        start,
        ...actorOf(signatureOf(caller)),
        whenLimited,
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
        ...(traceparent === undefined ? {} : { traceparent }),
      })
      .catch(this.own.veiledRefusal(caller));
    void reply.status(created ? 201 : 200);
    return execution;
  }

  @Post('agents')
  async createAgent(
    @Body() body: unknown,
    @Query() query: QueryMap,
    @Headers('idempotency-key') key: string | undefined,
    @Headers('traceparent') traceparent: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
    @Who() caller: Caller,
  ): Promise<ExecutionRecord> {
    this.orchestrator.assertAdmitting();
    const idempotencyKey = readIdempotencyKey(key);
    const reader = new QueryReader(query);
    const whenLimited = reader.flag('queue', true) ? 'queue' : 'refuse';
    reader.done();
    const { execution, created } = await this.manager
      .submitAgent(body as AgentSpecInput, {
        ...actorOf(signatureOf(caller)),
        whenLimited,
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
        ...(traceparent === undefined ? {} : { traceparent }),
      })
      .catch(this.own.veiledRefusal(caller));
    void reply.status(created ? 201 : 200);
    return execution;
  }

  @Get('executions')
  async list(@Query() query: QueryMap, @Who() { selector }: Caller): Promise<Page<ExecutionRecord>> {
    const reader = new QueryReader(query);
    const states =
      reader.list('state', statesOf(EXECUTION_MACHINE)) ?? reader.list('status', statesOf(EXECUTION_MACHINE));
    const labels = reader.all('label');
    const page = reader.page();
    reader.done();
    return this.lifecycle.executions.list({
      labels,
      ...(states === undefined ? {} : { states }),
      ...(selector === undefined ? {} : { selector }),
      ...page,
    });
  }

  @Get('executions/:id')
  async get(@Param('id') id: string): Promise<ExecutionRecord> {
    return this.lifecycle.executions.get(id);
  }

  @Delete('executions/:id')
  async delete(@Param('id') id: string, @Who() caller: Caller): Promise<DeletedExecution> {
    return this.deletions.delete(id, signatureOf(caller));
  }

  @Get('executions/:id/nodes')
  async nodes(@Param('id') id: string, @Query() query: QueryMap): Promise<Page<NodeRecord>> {
    await this.lifecycle.executions.get(id);
    const reader = new QueryReader(query);
    const states = reader.list('state', statesOf(NODE_MACHINE));
    const page = reader.page(10_000);
    reader.done();
    return this.lifecycle.executions.nodes(id, {
      ...(states === undefined ? {} : { states }),
      ...page,
    });
  }

  @Get('executions/:id/nodes/:nodeId')
  async node(
    @Param('id') id: string,
    @Param('nodeId') nodeId: string,
  ): Promise<NodeRecord & { result?: unknown }> {
    await this.lifecycle.executions.get(id);
    return this.lifecycle.executions.node(id, nodeId);
  }

  @Post('executions/:id/start')
  @HttpCode(200)
  async start(@Param('id') id: string): Promise<ExecutionRecord> {
    this.orchestrator.assertAdmitting();
    return this.manager.start(id);
  }

  @Post('executions/:id/pause')
  @HttpCode(200)
  async pause(
    @Param('id') id: string,
    @Body() body: unknown,
    @Who() caller: Caller,
  ): Promise<{ execution: ExecutionRecord; receipt?: Receipt }> {
    const { mode = 'drain', note } = validatePauseRequest(body);
    return this.killswitch.holds.pause(id, {
      mode,
      ...signatureOf(caller),
      ...(note === undefined ? {} : { note }),
    });
  }

  @Post('executions/:id/resume')
  @HttpCode(200)
  async resume(
    @Param('id') id: string,
    @Who() caller: Caller,
  ): Promise<{ execution: ExecutionRecord; receipt?: Receipt }> {
    return this.killswitch.holds.resume(id, signatureOf(caller));
  }

  @Post('executions/:id/signals/:name')
  @HttpCode(200)
  async signal(
    @Param('id') id: string,
    @Param('name') name: string,
    @Body() body: unknown,
    @Who() caller: Caller,
  ): Promise<Signalled> {
    const { payload = null } = validateSignal(body);
    return this.manager.signal(id, { name: requireSignal(name), payload, by: caller.name });
  }

  @Post('executions/:id/retry')
  @HttpCode(200)
  async retry(
    @Param('id') id: string,
    @Body() body: unknown,
    @Who() caller: Caller,
  ): Promise<ExecutionRecord> {
    this.orchestrator.assertAdmitting();
    return this.manager.retry(id, { ...validateRetryRequest(body), actor: caller.name });
  }

  @Post('executions/:id/stop')
  async stop(
    @Param('id') id: string,
    @Body() body: unknown,
    @Query() query: QueryMap,
    @Res({ passthrough: true }) reply: FastifyReply,
    @Who() caller: Caller,
  ): Promise<StopResponse | { orderId?: string; executionId: string; status: string }> {
    const reader = new QueryReader(query);
    const wait = reader.flag('wait', true);
    reader.done();
    const request = { ...validateStopRequest(body ?? {}), ...signatureOf(caller) };
    if (!wait) {
      // An execution whose record cannot be read can still be stopped.
      const before = await this.lifecycle.executions.get(id).catch(() => undefined);
      // The execution has ended, so no order is placed, as in a stop that waits for the end.
      if (before !== undefined && isEnded(EXECUTION_MACHINE, before.state)) {
        void reply.status(202);
        const { orderId: earlier } = before;
        return {
          executionId: id,
          status: before.state,
          ...(earlier === undefined ? {} : { orderId: earlier }),
        };
      }
      const { id: orderId } = await this.killswitch.placeOrder({
        reason: 'user_abort',
        ...request,
        scope: { type: 'execution', executionId: id },
      });
      const { state } = await this.lifecycle.executions.get(id);
      void reply.status(202);
      return { orderId, executionId: id, status: state };
    }
    void reply.status(200);
    return this.own.veiledStop(caller, await this.killswitch.stops.stop(id, request));
  }

  @Post('execute/stop')
  @HttpCode(200)
  async stopByBody(@Body() body: unknown, @Who() caller: Caller): Promise<StopResponse> {
    const { executionId, ...rest } = (body ?? {}) as { executionId?: unknown };
    if (typeof executionId !== 'string') {
      throw new BelayError('INVALID_REQUEST', 'executionId is missing.', {
        problems: [
          { path: 'executionId', code: 'REQUIRED', message: 'executionId must be the id of an execution.' },
        ],
      });
    }
    const request = { ...validateStopRequest(rest), ...signatureOf(caller) };
    return this.own.veiledStop(caller, await this.killswitch.stops.stop(executionId, request));
  }

  @Get('executions/:id/events')
  async events(
    @Param('id') id: string,
    @Query() query: QueryMap,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const reader = new QueryReader(query);
    const cancelOnDisconnect = reader.flag('cancelOnDisconnect', false);
    reader.done();
    await this.lifecycle.executions.get(id);
    const lastId = readLastEventId(request);
    const follow = cancelOnDisconnect ? await this.attendance.watch(id) : undefined;
    const stream = this.streams.open(reply);
    follow?.(stream);
    await streamExecution(this.lifecycle, this.feed, stream, {
      executionId: id,
      closing: this.streams.closing,
      ...(lastId === undefined ? {} : { lastId }),
    });
  }
}
