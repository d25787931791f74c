import { Controller, Get, Inject, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { OrchestratorService } from '#libs/orchestrator';

/** `/health`: 200 while running or draining; live while sound; ready only while running (docs/http-api.md#health). No token. */
@Controller('health')
export class HealthController {
  constructor(@Inject(OrchestratorService) private readonly orchestrator: OrchestratorService) {}

  @Get()
  health(@Res({ passthrough: true }) reply: FastifyReply): { state: string } {
    const { state } = this.orchestrator;
    void reply.status(state === 'running' || state === 'draining' ? 200 : 503);
    return { state };
  }

  @Get('live')
  live(): { state: string } {
    return { state: this.orchestrator.state };
  }

  @Get('ready')
  ready(@Res({ passthrough: true }) reply: FastifyReply): { state: string } {
    const { state } = this.orchestrator;
    void reply.status(state === 'running' ? 200 : 503);
    return { state };
  }
}
