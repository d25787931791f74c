import { Controller, Get, Inject, Param } from '@nestjs/common';
import type { WebhookDelivery, WebhookRecord } from '#libs/contracts';
import { Webhooks } from '#libs/webhooks';

/** The endpoints that are told of events (docs/webhooks.md). */
@Controller('api/webhooks')
export class WebhooksController {
  constructor(@Inject(Webhooks) private readonly webhooks: Webhooks) {}

  @Get()
  async list(): Promise<{ items: WebhookRecord[] }> {
    return { items: await this.webhooks.list() };
  }

  @Get(':name/deliveries')
  async deliveries(@Param('name') name: string): Promise<{ items: WebhookDelivery[] }> {
    return { items: await this.webhooks.deliveries(name) };
  }
}
