import type { Approvals } from '#libs/approvals';
import type { Janitor, SubmissionConsumer } from '#libs/executions';
import type { KillswitchService } from '#libs/killswitch';
import { eventually } from '../../../test/support/wait';
import type { Attendance } from './attendance';
import type { Deletions } from './deletions';
import { OrchestratorService } from './orchestrator.service';

const parts = () => ({
  janitor: { start: jest.fn(), stop: jest.fn() },
  killswitch: { start: jest.fn(), stopListening: jest.fn(), sweep: jest.fn(async () => undefined) },
  approvals: { sweep: jest.fn(async () => undefined) },
  producers: { start: jest.fn(), stop: jest.fn() },
  attendance: { sweep: jest.fn(async () => undefined) },
  deletions: { sweep: jest.fn(async () => undefined) },
});

function serviceOf(made: ReturnType<typeof parts>, onError: (error: unknown) => void): OrchestratorService {
  return new OrchestratorService(
    made.janitor as unknown as Janitor,
    made.killswitch as unknown as KillswitchService,
    made.approvals as unknown as Approvals,
    made.producers as unknown as SubmissionConsumer,
    made.attendance as unknown as Attendance,
    made.deletions as unknown as Deletions,
    { sweepMs: 1, onError },
  );
}

describe('R46 one part of the sweep that fails', () => {
  it('begins no other part a second time, and the drain waits for those under way', async () => {
    const made = parts();
    const order: string[] = [];
    let end = (): void => undefined;
    made.killswitch.sweep.mockImplementation(
      async () => new Promise((resolve) => (end = () => resolve(undefined))),
    );
    made.approvals.sweep.mockRejectedValue(new Error('no record'));
    const service = serviceOf(made, () => order.push('told'));
    await service.start();
    await eventually(() => made.approvals.sweep.mock.calls.length > 0, 'a sweep');
    const drained = service.drain().then(() => order.push('drained'));
    // Time in which a drain that does not wait ends.
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(made.killswitch.sweep).toHaveBeenCalledTimes(1);
    order.push('ends');
    end();
    await drained;
    expect(order).toEqual(['ends', 'told', 'drained']);
  });

  it('is no successful pass', async () => {
    const made = parts();
    made.attendance.sweep.mockRejectedValue(new Error('full'));
    const errors: unknown[] = [];
    const service = serviceOf(made, (error) => errors.push(error));
    await service.start();
    await eventually(() => service.sincePassMs > 40 && errors.length > 2, 'three sweeps failed');
    expect(errors[0]).toEqual(new Error('full'));
    made.attendance.sweep.mockResolvedValue(undefined);
    await eventually(() => service.sincePassMs < 30, 'a sweep succeeded');
    await service.drain();
  });
});
