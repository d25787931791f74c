/** A way to leave the tree, as a shell command: `$0` is the file for the pid, `$1` a command that writes the pid and stays. */
interface Escape {
  readonly name: string;
  readonly command: string;
}

const QUIET = '</dev/null >/dev/null 2>&1 3>&-';
/** Writes the pid and stays for a minute, whatever happens to the drill. */
const STAY = 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 60';
const ORPHAN = 'sh -c "$1" "$0" & exit';
/** A process that knows of Belay removes the mark from its limits. */
const UNMARK = '{ ulimit -S -w 1 && ulimit -H -w 1 || { ulimit -S -x 1 && ulimit -H -x 1; }; } 2>/dev/null';

/** Leaves the session with every generation and ends at once: `$2` generations more, by this program in `$3`. */
const CHAIN = '[ "$2" -gt 0 ] || exec sh -c "$1" "$0"; setsid sh -c "$3" "$0" "$1" $(($2 - 1)) "$3" & exit';
/** Gone before a pass over /proc has read most of them. */
const GENERATIONS = 20;

/** The ways need a POSIX shell, util-linux, and one of them perl. A way whose tools are missing is not tried. */
export const ESCAPES: readonly Escape[] = [
  { name: 'own-session', command: `setsid sh -c "$1" "$0" ${QUIET} &` },
  { name: 'own-group', command: `set -m; sh -c "$1" "$0" ${QUIET} &` },
  { name: 'holds-pipe', command: 'setsid sh -c "$1" "$0" &' },
  { name: 'double-fork', command: `setsid sh -c '${ORPHAN}' "$0" "$1" ${QUIET}` },
  { name: 'disowned', command: `nohup sh -c "$1" "$0" ${QUIET} &` },
  { name: 'deaf', command: `trap '' TERM HUP INT; sh -c "$1" "$0" ${QUIET} &` },
  { name: 'stopped', command: `sh -c 'echo $$ >"$0"; kill -STOP $$; exec sleep 60' "$0" ${QUIET} &` },
  { name: 'cleared', command: `env -i setsid sh -c '${ORPHAN}' "$0" "$1" ${QUIET}` },
  { name: 'unmarked', command: `env -i setsid sh -c '${UNMARK}; ${ORPHAN}' "$0" "$1" ${QUIET}` },
  {
    name: 'fork-chain',
    command: `env -i setsid sh -c '${CHAIN}' "$0" "$1" ${GENERATIONS} '${CHAIN}' ${QUIET}`,
  },
  {
    name: 'moved-cgroup',
    command:
      `mount=$(sed -n 's/^[0-9]* [0-9]* [^ ]* [^ ]* \\([^ ]*\\) .* - cgroup2 .*/\\1/p' /proc/self/mountinfo | head -n 1); ` +
      `own=$(sed -n 's/^0:://p' /proc/self/cgroup); case $own in */belay-*/*) ;; *) exit ;; esac; ` +
      `env -i setsid sh -c '${UNMARK}; echo 0 >"$2" || exit; ${ORPHAN}' "$0" "$1" "$mount\${own%/belay-*}/cgroup.procs" ${QUIET}`,
  },
  {
    name: 'subreaper',
    command:
      `env -i perl -e 'use POSIX; syscall((POSIX::uname())[4] eq "aarch64" ? 167 : 157, 36, 1, 0, 0, 0); ` +
      `if (!fork) { POSIX::setsid(); if (!fork) { open F, ">", $ARGV[0]; print F $$; close F; sleep 60 } exit } sleep 60' "$0" ${QUIET} &`,
  },
];

/**
 * Run by `node -e` as an ordinary agent, with `{ workerId, workerPid, escapes, stay }` as JSON in its argument. Each attack
 * only tries whether it is allowed, and does no harm: it opens and closes, sends signal 0 and PING, releases a latch that does
 * not exist. It reports all of them in one progress message, and stays until it is killed.
 */
export const HOSTILE = String.raw`
const fs = require('node:fs'), net = require('node:net'), http = require('node:http'), os = require('node:os'), path = require('node:path');
const { spawn, spawnSync } = require('node:child_process');
const { workerId, workerPid, escapes, stay } = JSON.parse(process.argv[1]);
const WAIT_MS = 3000;
const attacks = [];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const orNothing = (act) => { try { return act(); } catch { return undefined; } };

async function attack(name, tries) {
  const done = [];
  for (const [what, act] of tries) {
    try { if ((await act()) !== false) done.push(what); } catch {}
  }
  attacks.push({ name, could: tries.length === 0 ? null : done.length > 0, what: done.join(', ') });
}

function statOf(pid) {
  const text = orNothing(() => fs.readFileSync('/proc/' + pid + '/stat', 'latin1'));
  if (text === undefined) return undefined;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { pid: Number(pid), parent: Number(fields[1]), start: fields[19] };
}
const programOf = (pid) => (orNothing(() => fs.readFileSync('/proc/' + pid + '/cmdline', 'latin1')) ?? '').split('\0').slice(0, 8)
  .map((word) => /^(belay|orchestrator|worker|guardian-main)(-main)?(\.js)?$/.exec(path.basename(word))?.[1]).find(Boolean);

function programs() {
  const all = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => statOf(pid) ?? []);
  const worker = statOf(workerPid);
  const isOurs = programOf(workerPid) !== undefined;
  const up = worker !== undefined && programOf(worker.parent) === 'belay' ? worker.parent : undefined;
  const found = [[isOurs ? 'worker' : 'host', workerPid]];
  for (const { pid, parent } of all) {
    if (parent === workerPid && programOf(pid) === 'guardian-main') found.push(['guardian', pid]);
    if (up !== undefined && parent === up && programOf(pid) === 'orchestrator') found.push(['orchestrator', pid]);
  }
  if (up !== undefined) found.push(['up', up]);
  return found;
}

function connects(target, words) {
  return new Promise((resolve) => {
    const socket = net.connect(target);
    const timer = setTimeout(() => end(false), WAIT_MS);
    const end = (answer) => { clearTimeout(timer); socket.destroy(); resolve(answer); };
    socket.once('error', () => end(false));
    socket.once('connect', () => (words === undefined ? end(true) : socket.write(words)));
    socket.once('data', (data) => end(data.toString().includes('+PONG')));
  });
}

function releases(url, token) {
  return new Promise((resolve) => {
    const headers = token === undefined ? {} : { authorization: 'Bearer ' + token };
    const target = new URL('/api/latches/lat_00000000000000000000000000', url);
    const request = http.request(target, { method: 'DELETE', headers, timeout: WAIT_MS }, (response) => {
      response.resume();
      resolve(response.statusCode !== 401 && response.statusCode !== 403);
    });
    request.once('error', () => resolve(false)).once('timeout', () => request.destroy());
    request.end();
  });
}

async function leave(dir) {
  for (const { name, command } of escapes)
    spawn('/bin/sh', ['-c', command, path.join(dir, name), stay], { stdio: ['ignore', 'inherit', 'ignore', 'inherit'] }).on('error', () => {});
  const until = Date.now() + WAIT_MS;
  const left = new Map();
  while (left.size < escapes.length && Date.now() < until) {
    for (const { name } of escapes) {
      const pid = Number(orNothing(() => fs.readFileSync(path.join(dir, name), 'utf8')));
      if (left.has(name) || !(pid > 0)) continue;
      left.set(name, { name, pid, start: statOf(pid)?.start });
    }
    await pause(20);
  }
  return [...left.values()];
}

async function main() {
  const lines = fs.readFileSync('/proc/net/unix', 'utf8').split('\n');
  const sockets = [...new Set(lines.map((line) => line.split(' ').slice(7).join(' ')))];
  const fds = fs.readdirSync('/proc/self/fd').map((fd) => orNothing(() => fs.readlinkSync('/proc/self/fd/' + fd)) ?? '');
  const own = sockets.filter((name) => path.basename(name) === workerId + '.sock');
  const dataDir = [...own, ...fds].map((name) => new RegExp('^(/.*)/(?:workers|hosts)/' + workerId).exec(name)?.[1]).find(Boolean);
  const file = (...names) => path.join(dataDir, ...names);
  const inDir = (tries) => (dataDir === undefined ? [] : tries);
  const read = (...names) => fs.readFileSync(file(...names), 'utf8').trim();

  await attack('read-secrets', inDir([['token', () => read('token')], ['password', () => read('valkey', 'password')]]));
  await attack('list-data-dir', inDir([['list', () => fs.readdirSync(dataDir)]]));
  await attack('write-data-dir', inDir([['write', () => {
    fs.writeFileSync(file('drill.probe'), '', { flag: 'wx' });
    fs.unlinkSync(file('drill.probe'));
  }]]));
  const all = programs();
  await attack('read-environment', all.map(([name, pid]) => [name, () => fs.readFileSync('/proc/' + pid + '/environ').length > 0]));
  await attack('read-memory', all.map(([name, pid]) => [name, () => fs.closeSync(fs.openSync('/proc/' + pid + '/mem', 'r'))]));
  await attack('list-descriptors', all.map(([name, pid]) => [name, () => fs.readdirSync('/proc/' + pid + '/fd')]));
  await attack('signal', all.map(([name, pid]) => [name, () => process.kill(pid, 0)]));
  await attack('connect-break-glass', own.map((name) => ['socket', () => connects({ path: name })]));
  const server = inDir(sockets.filter((name) => name === file('valkey', 'valkey.sock')));
  await attack('use-server', server.flatMap((name) => [
    ['without a password', () => connects({ path: name }, 'PING\r\n')],
    ['with its password', () => connects({ path: name }, 'AUTH belay ' + read('valkey', 'password') + '\r\nPING\r\n')],
  ]));
  const url = orNothing(() => JSON.parse(read('orchestrator.json')).url);
  await attack('release-latch', [
    ['without a token', () => url !== undefined && releases(url)],
    ['with the token', () => url !== undefined && releases(url, read('token'))],
  ]);
  const has = (name) => spawnSync('/bin/sh', ['-c', 'command -v ' + name]).status === 0;
  const run = (name, args, input) => [name, () => spawnSync(name, args, { input, timeout: WAIT_MS }).status === 0];
  await attack('hand-to-daemon', [
    ...(has('systemd-run') ? [run('systemd-run', ['--user', '--quiet', '--collect', 'true'])] : []),
    ...(has('at') ? [run('at', ['now'], 'true\n')] : []),
  ]);
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'belay-drill-'));
  const left = await leave(dir);
  fs.rmSync(dir, { recursive: true, force: true });
  const report = { uid: process.getuid(), embedded: all[0][0] === 'host', attacks, left };
  fs.writeSync(3, JSON.stringify({ type: 'progress', value: report }) + '\n');
  setInterval(() => {}, 1000);
}

void main();
`;

/** Each way runs this program, which writes its pid and stays for a minute. */
export const STAYS = STAY;

/** Run by `node -e` with `{ workerPid, left }`: reports which of those processes live, and ends those that it may. */
export const WITNESS = String.raw`
const fs = require('node:fs');
const { workerPid, left } = JSON.parse(process.argv[1]);
const lives = ({ pid, start }) => {
  try {
    const text = fs.readFileSync('/proc/' + pid + '/stat', 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return !['Z', 'X'].includes(fields[0]) && (start === undefined || fields[19] === start);
  } catch { return false; }
};
const alive = left.filter(lives);
for (const { pid } of alive) try { process.kill(pid, 'SIGKILL'); } catch {}
const value = { sees: fs.existsSync('/proc/' + workerPid + '/stat'), alive: alive.map(({ name }) => name) };
fs.writeSync(3, JSON.stringify({ type: 'progress', value }) + '\n');
`;
