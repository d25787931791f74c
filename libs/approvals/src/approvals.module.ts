import { Module } from '@nestjs/common';
import { AuditStore } from '#libs/killswitch';
import { LifecycleService } from '#libs/lifecycle';
import { belayModule, madeFrom } from '#libs/valkey';
import { Approvals } from './approvals';

const { ConfigurableModuleClass } = belayModule<object>('BelayApprovals');

/** Gives `Approvals`. Needs LifecycleModule and KillswitchModule. */
@Module({ providers: [madeFrom(Approvals, LifecycleService, AuditStore)], exports: [Approvals] })
export class ApprovalsModule extends ConfigurableModuleClass {}
