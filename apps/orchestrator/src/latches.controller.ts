import { Body, Controller, Get, HttpCode, Inject, Param, Post } from '@nestjs/common';
import { validateLatchRequest, validateNoteRequest, type Latch, type Receipt } from '#libs/contracts';
import { KillswitchService } from '#libs/killswitch';

@Controller('api/latches')
export class LatchesController {
  constructor(@Inject(KillswitchService) private readonly killswitch: KillswitchService) {}

  @Post()
  async engage(@Body() body: unknown): Promise<Latch> {
    return this.killswitch.engage({ ...validateLatchRequest(body), by: 'api' });
  }

  @Get()
  async list(): Promise<{ items: Latch[] }> {
    return { items: await this.killswitch.latches.list() };
  }

  @Get(':id')
  async get(@Param('id') id: string): Promise<Latch> {
    return this.killswitch.latches.get(id);
  }

  @Post(':id/release')
  @HttpCode(200)
  async release(
    @Param('id') id: string,
    @Body() body: unknown,
  ): Promise<{ latch: Latch; already: boolean; receipt?: Receipt }> {
    const { note } = validateNoteRequest(body);
    return this.killswitch.holds.release(id, { by: 'api', note });
  }
}
