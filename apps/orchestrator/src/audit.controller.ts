import { Controller, Get, Inject, Query } from '@nestjs/common';
import type { AuditEntry, AuditVerdict, Page } from '#libs/contracts';
import { AuditStore } from '#libs/killswitch';
import { QueryReader, type Query as QueryMap } from './query';

@Controller('api/audit')
export class AuditController {
  constructor(@Inject(AuditStore) private readonly audit: AuditStore) {}

  @Get()
  async list(@Query() query: QueryMap): Promise<Page<AuditEntry>> {
    const reader = new QueryReader(query);
    const page = reader.page(10_000);
    reader.done();
    return this.audit.list(page);
  }

  @Get('verify')
  async verify(): Promise<AuditVerdict> {
    return this.audit.verify();
  }
}
