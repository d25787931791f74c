import { unlessGone, type Asker } from './asker';
import { uptime } from './clock';
import type { ArmedFacts, DrillFacts } from './history';
import { carrying } from './processes';

/** A drill that waits for an absent worker is given up; the orchestrator ends it. */
const DRILL_MS = 5_000;
const ARMED_MS = 6_000;

/** Asks in the middle of everything whether Belay could stop everything now, and records the answers. */
export class Readiness {
  readonly drills: DrillFacts[] = [];
  readonly armed: ArmedFacts[] = [];

  constructor(private readonly asker: Asker) {}

  async drill(workerId: string | undefined): Promise<void> {
    if (workerId === undefined) return;
    const order = this.asker.begin('drill', { covers: { what: 'nothing' } });
    const signal = AbortSignal.timeout(DRILL_MS);
    const report = await this.asker.client()?.drill(workerId, { signal }).catch(unlessGone);
    if (report === undefined) return;
    order.answeredAt = uptime();
    for (const { passed, canaries, executionId } of report.items) {
      const alive = executionId === undefined ? [] : carrying(`BELAY_EXECUTION_ID=${executionId}`);
      const outcomes = canaries.map(({ outcome }) => outcome);
      this.drills.push({ workerId, passed: passed || report.passed, outcomes, alive });
    }
  }

  async ask(): Promise<void> {
    const order = this.asker.begin('armed', { covers: { what: 'nothing' } });
    const signal = AbortSignal.timeout(ARMED_MS);
    const report = await this.asker.client()?.armed({ signal }).catch(unlessGone);
    if (report === undefined) return;
    order.answeredAt = uptime();
    const { askedAt, answeredAt } = order;
    const workers = report.workers.map(({ workerId, armed }) => ({ workerId, armed }));
    this.armed.push({ askedAt, answeredAt, armed: report.armed, workers });
  }
}
