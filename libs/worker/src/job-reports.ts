import { Inject, Injectable } from '@nestjs/common';
import { isHandlerRun, JOB_LABEL, JOB_LOG_EVENT, QUEUE_LABEL } from '#libs/contracts';
import { JobRelay } from '#libs/dispatch';
import { AgentSlots, type AgentSaid } from '#libs/spawner';

/** Hands the progress and the log lines of a handler that runs a BullMQ job to that job. */
@Injectable()
export class JobReports {
  constructor(
    @Inject(AgentSlots) agents: Pick<AgentSlots, 'messages$'>,
    @Inject(JobRelay) private readonly relay: JobRelay,
  ) {
    agents.messages$.subscribe((said) => this.tell(said));
  }

  private tell({ message, claim: { labels, node } }: AgentSaid): void {
    const { [QUEUE_LABEL]: queue, [JOB_LABEL]: jobId } = labels;
    if (queue === undefined || jobId === undefined || !isHandlerRun(node.run)) return;
    if (message.type === 'progress') this.relay.progress(queue, jobId, message.value);
    else if (message.type === 'event' && message.name === JOB_LOG_EVENT && typeof message.data === 'string')
      this.relay.log(queue, jobId, message.data);
  }

  /** Resolves when the last reports are stored, or could not be. */
  async close(): Promise<void> {
    await this.relay.close();
  }
}
