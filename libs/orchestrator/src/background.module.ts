import { Module } from '@nestjs/common';
import { belayModule } from '#libs/valkey';
import { Attendance } from './attendance';
import { Deletions } from './deletions';
import { ORCHESTRATOR_OPTIONS, type OrchestratorOptions } from './orchestrator-options';
import { OrchestratorService } from './orchestrator.service';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = belayModule<OrchestratorOptions>('BelayBackground');

/** Gives `OrchestratorService`, which does no background work before its start, `Attendance` and `Deletions`. Needs ApprovalsModule. */
@Module({
  providers: [
    { provide: ORCHESTRATOR_OPTIONS, useExisting: MODULE_OPTIONS_TOKEN },
    Attendance,
    Deletions,
    OrchestratorService,
  ],
  exports: [Attendance, Deletions, OrchestratorService],
})
export class BackgroundModule extends ConfigurableModuleClass {}
