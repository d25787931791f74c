import { Body, Controller, Get, Inject, Put } from '@nestjs/common';
import { validateLimitsRequest, type LimitsRecord } from '#libs/contracts';
import { LimitPolicy } from '#libs/killswitch';

/** The fleet's limits on running agents (requirement R35). */
@Controller('api/limits')
export class LimitsController {
  constructor(@Inject(LimitPolicy) private readonly policy: LimitPolicy) {}

  @Get()
  async get(): Promise<LimitsRecord> {
    return this.policy.get();
  }

  @Put()
  async set(@Body() body: unknown): Promise<LimitsRecord> {
    const { limits, note } = validateLimitsRequest(body);
    return this.policy.set(limits, { by: 'api', ...(note === undefined ? {} : { note }) });
  }
}
