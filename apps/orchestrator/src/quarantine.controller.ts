import { Controller, Get, Inject } from '@nestjs/common';
import type { QuarantinedRecord } from '#libs/contracts';
import { Valkey } from '#libs/valkey';

/** Records that cannot be read, where a person finds them (requirement R31). */
@Controller('api/quarantine')
export class QuarantineController {
  constructor(@Inject(Valkey) private readonly valkey: Valkey) {}

  @Get()
  async list(): Promise<{ items: QuarantinedRecord[] }> {
    return { items: await this.valkey.quarantine.list() };
  }
}
