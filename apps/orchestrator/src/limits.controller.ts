import { Body, Controller, Get, Inject, Put } from '@nestjs/common';
import { signatureOf, validateLimitsRequest, type Caller, type LimitsRecord } from '#libs/contracts';
import { LimitPolicy } from '#libs/killswitch';
import { Who } from './http/caller';

/** The fleet's limits on running agents (docs/limits.md). */
@Controller('api/limits')
export class LimitsController {
  constructor(@Inject(LimitPolicy) private readonly policy: LimitPolicy) {}

  @Get()
  async get(): Promise<LimitsRecord> {
    return this.policy.get();
  }

  @Put()
  async set(@Body() body: unknown, @Who() caller: Caller): Promise<LimitsRecord> {
    const { limits, note } = validateLimitsRequest(body);
    return this.policy.set(limits, { ...signatureOf(caller), ...(note === undefined ? {} : { note }) });
  }
}
