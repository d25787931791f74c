import { Inject, Injectable, Optional } from '@nestjs/common';
import { OutcomeReplay } from './outcome-replay';
import { AgentDoor, StartGate, TraceCarrier, WorkerLease } from './ports';

/** The other parts of the worker that the runner uses, as the container finds them. */
@Injectable()
export class RunnerPorts {
  constructor(
    @Inject(OutcomeReplay) readonly ends: Pick<OutcomeReplay, 'store'>,
    @Optional() @Inject(StartGate) readonly gate?: StartGate,
    @Optional() @Inject(WorkerLease) readonly lease?: WorkerLease,
    @Optional() @Inject(AgentDoor) readonly door?: AgentDoor,
    @Optional() @Inject(TraceCarrier) readonly trace?: TraceCarrier,
  ) {}
}
