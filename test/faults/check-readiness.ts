import type { Violation } from './check';
import { TOLERANCE } from './check-lives';
import type { ArmedFacts, FaultFacts, History } from './history';

const STOPPED = /^worker-(sigstop|kill9|and-guardian|gone)/;

/** A drill passes only when every canary was killed, and a worker that cannot hear is never "armed". */
export function checkReadiness({ drills, armed, faults, drains }: History): Violation[] {
  const calm = (at: number): boolean =>
    faults.every((fault) => fault.at > at) && drains.every((drain) => drain.askedAt > at);
  return [
    ...drills.flatMap(({ workerId, passed, outcomes, alive }): Violation[] => {
      const name = `the drill of ${workerId}`;
      if (!passed) return [];
      const spared = outcomes.filter((outcome) => outcome !== 'killed');
      if (outcomes.length === 0 || spared.length > 0)
        return [{ rule: 'drill', what: `${name} was passed with ${spared.join(', ') || 'no canary'}` }];
      return alive.map((who) => ({ rule: 'drill', what: `${name} was passed, and alive: ${who}` }));
    }),
    ...armed.flatMap((answer) => [
      ...deafButArmed(answer, faults),
      ...(answer.armed || !calm(answer.answeredAt)
        ? []
        : [{ rule: 'drill' as const, what: 'not armed, and nothing explains it' }]),
    ]),
  ];
}

/** A worker that was suspended or dead from before the question until after the answer cannot have answered it. */
function deafButArmed({ askedAt, answeredAt, workers, armed }: ArmedFacts, faults: readonly FaultFacts[]) {
  const isDeaf = (who: string): boolean =>
    faults.some(
      ({ kind, at, until = Number.POSITIVE_INFINITY, workerId }) =>
        workerId === who && STOPPED.test(kind) && at < askedAt - TOLERANCE && until > answeredAt,
    );
  return workers
    .filter((worker) => worker.armed && isDeaf(worker.workerId))
    .map(({ workerId }): Violation => {
      const all = armed ? ', and so was the fleet' : '';
      return { rule: 'drill', what: `${workerId} was called armed while it could hear nobody${all}` };
    });
}
