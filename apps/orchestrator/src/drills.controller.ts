import { Body, Controller, Get, HttpCode, Inject, Post } from '@nestjs/common';
import {
  signatureOf,
  validateDrillRequest,
  type ArmedReport,
  type Caller,
  type DrillResult,
  type DrillStatus,
} from '#libs/contracts';
import { ArmedService, DrillService } from '#libs/killswitch';
import { DRILL_MAX_AGE } from './drill-max-age';
import { Who } from './http/caller';

@Controller('api/killswitch')
export class DrillsController {
  constructor(
    @Inject(DrillService) private readonly drills: DrillService,
    @Inject(ArmedService) private readonly armed: ArmedService,
    @Inject(DRILL_MAX_AGE) private readonly maxAge: { readonly ms: number | undefined },
  ) {}

  @Post('drill')
  @HttpCode(200)
  async drill(
    @Body() body: unknown,
    @Who() caller: Caller,
  ): Promise<{ passed: boolean; items: DrillResult[] }> {
    const request = validateDrillRequest(body);
    const items = await this.drills.run({ ...signatureOf(caller), ...request });
    return { passed: items.length > 0 && items.every(({ passed }) => passed), items };
  }

  @Get('drill')
  async status(): Promise<{ items: DrillStatus[] }> {
    return { items: await this.drills.status(this.maxAge.ms) };
  }

  @Post('armed')
  @HttpCode(200)
  async ask(): Promise<ArmedReport> {
    return this.armed.ask();
  }
}
