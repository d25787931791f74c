// Containment: cgroups, descent, PID namespaces, and the grade of their proofs.
import * as define from './define.mjs';

const inProcess =
  (make) =>
  (id, what, name, ...rest) =>
    make(id, what, `libs/spawner/src/process/${name}.ts`, ...rest);
const real = inProcess(define.real);
const unit = inProcess(define.unit);

export const CONTAINMENT = [
  real(
    'cgroup-left',
    'a process that moves out of its cgroup is not found by descent',
    'process-host',
    "if (containment === 'marks') return false;",
    "if (containment !== 'descent') return false;",
    'integration/spawner-moved',
    'does not outlive a stop',
  ),
  define.unit(
    'grade-of-a-cgroup',
    'an empty cgroup alone is a proof of grade kernel',
    'libs/contracts/src/evidence.ts',
    "  'uid-empty',\n  'not-started',\n]);",
    "  'uid-empty',\n  'not-started',\n  'cgroup-empty',\n]);",
    'libs/contracts/src/evidence',
  ),
  real(
    'cgroup-deep',
    'cgroups whose path is too long for the kernel are not walked',
    'cgroup',
    'walk(`/proc/self/fd/${fd}`, enter',
    'walk(child, enter',
    'integration/spawner-hostile-cgroup',
    'R10 is asked by SIGTERM like every other',
  ),
  unit(
    'namespace-alive',
    'a proof does not wait for the end of the init of a namespace',
    'namespace-tree',
    'if (findAlive(init) === undefined) return true;',
    'return true;',
    'libs/spawner/src/process/namespace-tree',
  ),
  unit(
    'namespace-leftovers',
    'processes that outlive the command in a namespace get no SIGTERM',
    'namespace-tree',
    'if (!hasEnded || this.#below(this.#init).length > 0) return false;',
    'if (!hasEnded) return false;',
    'libs/spawner/src/process/namespace-tree',
  ),
  unit(
    'descent-adopted',
    'what a dead guardian leaves dead to the worker is reaped only with a look',
    'orphan-reaper',
    'below !== undefined || !own.is(stat)',
    'below !== undefined && !own.is(stat)',
    'libs/spawner/src/process/descent.spec',
    'R54 a dead orphan',
  ),
  unit(
    'descent-own',
    'a child that libuv waits for is reaped as an orphan',
    'orphan-reaper',
    'below !== undefined || !own.is(stat)',
    'true',
    'libs/spawner/src/process/descent.spec',
    'R48',
  ),
  unit(
    'descent-namespaced',
    'in a host program an orphan of a PID namespace stays dead for a minute',
    'orphan-reaper',
    ' || isNamespaced(stat.pid)',
    '',
    'libs/spawner/src/process/descent.spec',
    'R54 in a host program',
  ),
  unit(
    'descent-leaves-dead',
    'the last host leaves dead orphans',
    'descent',
    'if (hosts.size === 1) this.#reaper.leave();',
    '',
    'libs/spawner/src/process/descent.spec',
    'R54 the last host',
  ),
  unit(
    'descent-failed-look',
    'a look that fails is taken for one that found no orphan',
    'descent',
    '.catch(() => undefined);\n      calm =',
    '.catch(() => 0);\n      calm =',
    'libs/spawner/src/process/descent.spec',
    'R26 R51 ends it also',
  ),
];
