// VALKEY_URL=redis://127.0.0.1:6379 npm start: one report runs to its end, one is killed with proof; Ctrl-C drains.
import { NestFactory } from '@nestjs/core';
import { BelayRuntime, KillswitchService } from 'belayd/nest';
import { AppModule, Reports } from './app.js';

const app = await NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] });
app.enableShutdownHooks();
const [reports, belay] = [app.get(Reports), app.get(BelayRuntime)];
const ended = await belay.waitForEnd(await reports.begin(0), { timeoutMs: 60_000 });
console.log(`${ended.name}: ${ended.state}`);
const long = await reports.begin(600);
await belay.waitForAgent(long, { timeoutMs: 60_000 });
const { status, receipt } = await app.get(KillswitchService).stops.stop(long, { by: 'main' });
console.log(`report: ${status}, ${receipt?.totals.killed} killed, complete: ${receipt?.complete}`);
await reports.begin(600);
console.log('another report runs; Ctrl-C drains');
