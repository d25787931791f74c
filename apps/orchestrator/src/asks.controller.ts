import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query } from '@nestjs/common';
import { Approvals } from '#libs/approvals';
import { signatureOf, validateAnswer, type Caller, type QuestionRecord, type Page } from '#libs/contracts';
import { Who } from './http/caller';
import { QueryReader, type Query as QueryMap } from './query';

/** Questions that agents ask people (ADR 0026). */
@Controller('api/asks')
export class AsksController {
  constructor(@Inject(Approvals) private readonly approvals: Approvals) {}

  @Get()
  async list(@Query() query: QueryMap): Promise<Page<QuestionRecord>> {
    const reader = new QueryReader(query);
    const executionId = reader.text('executionId');
    const page = reader.page();
    reader.done();
    return this.approvals.list({ ...page, ...(executionId === undefined ? {} : { executionId }) });
  }

  @Get(':id')
  async get(@Param('id') id: string): Promise<QuestionRecord> {
    return this.approvals.get(id);
  }

  @Post(':id')
  @HttpCode(200)
  async answer(
    @Param('id') id: string,
    @Body() body: unknown,
    @Who() caller: Caller,
  ): Promise<QuestionRecord> {
    return this.approvals.answer(id, { ...validateAnswer(body), ...signatureOf(caller) });
  }
}
