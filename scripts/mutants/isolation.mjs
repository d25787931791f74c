// Agents with users of their own: which agent gets which user, the proof of their end, a start that cannot be prepared.
import * as define from './define.mjs';

const inProcess =
  (make) =>
  (id, what, name, ...rest) =>
    make(id, what, `libs/spawner/src/process/${name}.ts`, ...rest);
const real = inProcess(define.real);
const unit = inProcess(define.unit);
const USER = 'integration/isolation-user';
const POOL = 'libs/spawner/src/process/uid-pool';

export const ISOLATION = [
  unit(
    'uid-alive',
    'a user id is given out while a process of it lives',
    'uid-pool',
    'if (!(await lookForUser(uid, this.sweeper)).isEmpty) return false;',
    '',
    POOL,
  ),
  unit(
    'uid-twice',
    'the marks of other workers are not looked at',
    'uid-pool',
    'if (marked !== uid || token === this.marks.token) continue;',
    'continue;',
    POOL,
  ),
  unit(
    'uid-permit',
    'a start of a dead worker that is under way is not refused',
    'uid-pool',
    '      revoke(marks);\n',
    '',
    POOL,
  ),
  unit(
    'uid-collect',
    'the homes of a dead worker are removed while something runs',
    'end-uids',
    'if (!sweep.sound || uidsOf(marks).some((uid) => sweep.of(uid).length > 0)) return false;',
    '',
    POOL,
  ),
  unit(
    'uid-unsound',
    'a pass that may have missed a process proves that there is none',
    'uid-empty',
    'if (sweep.sound || found.length > 0)',
    'if (found.length >= 0)',
    POOL,
  ),
  real(
    'uid-stop',
    'a stop does not look for processes of the agent’s user',
    'uid-tree',
    'return isEmpty;',
    'return true;',
    USER,
    'containment marks without libc R12 do not outlive',
  ),
  real(
    'uid-guardian',
    'a guardian ends by marks alone',
    'guardian-main',
    'return uids === undefined ? ended : endByUser(ended, uids, BOUND_MS, libc);',
    'return ended;',
    USER,
    'containment marks without libc its guardian ends by user',
  ),
  real(
    'uid-reaper',
    'the next worker ends by marks alone',
    'reap-dead-workers',
    'const ended = uids === undefined ? byMarks : await endByUser(byMarks, uids, REAP_BOUND_MS, libc);',
    'const ended = byMarks;',
    USER,
    'containment marks without libc together with its guardian',
  ),
  real(
    'uid-checks',
    'a start does not look for its permit',
    'start-process',
    `[ -e "$1" ] ||`,
    `true ||`,
    USER,
    'are not run when the isolation cannot be prepared',
  ),
];
