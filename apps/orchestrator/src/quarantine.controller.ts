import { Controller, Get, Inject } from '@nestjs/common';
import type { QuarantinedRecord } from '#libs/contracts';
import { Valkey } from '#libs/valkey';

/** Records that cannot be read, listed for a person (docs/architecture.md#a-record-that-cannot-be-read). */
@Controller('api/quarantine')
export class QuarantineController {
  constructor(@Inject(Valkey) private readonly valkey: Valkey) {}

  @Get()
  async list(): Promise<{ items: QuarantinedRecord[] }> {
    return { items: await this.valkey.quarantine.list() };
  }
}
