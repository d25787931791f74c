import { Injectable, Module } from '@nestjs/common';
import { BelayModule, ExecutionManager } from 'belayd/nest';

@Injectable()
export class Reports {
  constructor(private readonly executions: ExecutionManager) {}

  async begin(seconds: number): Promise<string> {
    const write = { id: 'write', run: { command: ['sleep', String(seconds)] } };
    return (await this.executions.submit({ name: 'report', nodes: [write] })).execution.id;
  }
}

@Module({
  imports: [BelayModule.forRoot({ url: process.env['VALKEY_URL'] ?? '', stopTimeoutMs: 1_000 })],
  providers: [Reports],
})
export class AppModule {}
