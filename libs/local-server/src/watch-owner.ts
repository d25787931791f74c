import { spawn, type ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { identify, isAlive, signalProcess, type ProcessIdentity } from './process-identity';

/** The watcher gives the server this many milliseconds between SIGTERM and SIGKILL, to write its data out. */
export const STOP_GRACE_MS = 10_000;
const POLL_MS = 20;

/**
 * A small `sh` that starts the server as its child and ends it when the pipe from the owner reaches its end. That happens on
 * `stop()`, and also after a SIGKILL of the owner. The script is the server's parent, so the server never runs unwatched. It
 * stays blocked in `read`, so a server that died remains its zombie, and the pid cannot name another process; even so it checks
 * state and start time before each signal. The line `keep` tells it that another process keeps the directory.
 *
 * $1 directory to remove at the end or empty, $2 shared libraries or empty, then the server's command line.
 */
const WATCH = `
umask 077
PATH=\${PATH:+$PATH:}/usr/bin:/bin
remove=$1 libraries=$2
shift 2
if [ -n "$libraries" ]; then
  LD_LIBRARY_PATH=$libraries\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@" &
else
  "$@" &
fi
pid=$!
trap '' HUP INT
trap ':' TERM
look() {
  if [ -d /proc/self ]; then
    line=
    { read -r line </proc/$pid/stat; } 2>/dev/null
    [ -n "$line" ] || return 1
    set -- \${line##*) }
    state=$1 start=\${20}
  else
    line=$(ps -o stat=,lstart= -p "$pid") || return 1
    set -- $line
    state=$1
    shift
    start="$*"
  fi
}
look && first=$start
alive() { look && [ "$start" = "$first" ] && case $state in Z*|X*) false ;; esac; }
gone_within() {
  polls=$1
  while alive; do
    [ "$polls" -gt 0 ] || return 1
    polls=$((polls - 1))
    sleep 0.02 2>/dev/null || sleep 1
  done
}
echo "pid $pid"
exec >/dev/null 2>&1
while read -r word; do
  [ "$word" = keep ] && remove=
done
alive && kill -TERM "$pid"
gone_within ${STOP_GRACE_MS / POLL_MS} || { kill -KILL "$pid"; gone_within 250; }
# Collect the zombie: not every pid 1 does. It cannot block, unless SIGKILL did nothing.
alive || wait "$pid"
# Another who cleans up in there may have written a last word meanwhile.
[ -z "$remove" ] || rm -rf -- "$remove" || { sleep 1; rm -rf -- "$remove"; }
`;

/** A server and its watcher, in the owner's hands. */
export interface WatchedServer {
  readonly process: ProcessIdentity;
  /** The process that ends the server when this one dies. */
  readonly watcher: ProcessIdentity;
  /** Resolves when the server process has ended. */
  readonly exited: Promise<void>;
  /** Whether the server process has ended. */
  hasExited(): boolean;
  /** The server's output on stdout and stderr: errors from before it could open its log. */
  output(): string;
  /**
   * Flushes and ends the server (SIGTERM, bounded wait, SIGKILL) and removes its directory unless kept. Resolves when it is
   * gone.
   */
  end(options?: { readonly keepDirectory?: boolean }): Promise<void>;
}

export interface WatchOptions {
  readonly command: readonly string[];
  readonly libraryPath?: string;
  /** Removed when the server ends or the owner dies. */
  readonly removeDirectory?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts a server that ends with this process, however this process ends. Rejects when it cannot be started. */
export async function startWatched(options: WatchOptions): Promise<WatchedServer> {
  const child = spawn(
    '/bin/sh',
    [
      '-c',
      WATCH,
      'belay-server',
      options.removeDirectory ?? '',
      options.libraryPath ?? '',
      ...options.command,
    ],
    // A session of its own: Ctrl-C in a terminal reaches only the owner, which then ends the server in good order.
    { detached: true, stdio: ['pipe', 'pipe', 'pipe'], env: withoutSecrets(options.env ?? process.env) },
  );
  const watcherEnded = new Promise<void>((resolve) => {
    // Not `close`: a server that outlives a killed watcher has the same pipes open.
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  child.stdin.on('error', () => undefined); // EPIPE: the watcher is gone, which its exit reports
  const output = collectOutput(child);
  const pid = await firstPid(child);
  const server = identify(pid) ?? { pid, startTime: 'ended' };
  letGo(child);

  let exited = false;
  const whenExited = (async () => {
    await output.closed;
    exited = true;
  })();
  let ending: Promise<void> | undefined;
  const end = async (keepDirectory: boolean): Promise<void> => {
    // The channels must keep the event loop alive now, or a process with nothing else to do would end halfway.
    child.ref();
    child.stdin.end(keepDirectory ? 'keep\n' : '');
    await within(watcherEnded, STOP_GRACE_MS + 8_000);
    await endUnwatched(server);
    if (options.removeDirectory !== undefined && !keepDirectory) {
      rmSync(options.removeDirectory, { recursive: true, force: true });
    }
  };
  return {
    process: server,
    watcher: identify(child.pid ?? 0) ?? { pid: child.pid ?? 0, startTime: 'ended' },
    exited: whenExited,
    hasExited: () => exited || !isAlive(server),
    output: output.text,
    end: (ended = {}) => (ending ??= end(ended.keepDirectory === true)),
  };
}

/** The environment of server and watcher is readable to their user, so it has none of Belay's secrets. */
function withoutSecrets(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { BELAY_TOKEN: _token, BELAY_VALKEY_URL: _url, ...rest } = env;
  return rest;
}

/** Ends a server whose watcher was killed. With a live watcher there is nothing to do. */
async function endUnwatched(server: ProcessIdentity): Promise<void> {
  if (!signalProcess(server, 'SIGTERM')) return;
  try {
    await untilGone(server, STOP_GRACE_MS);
  } catch {
    await killServer(server);
  }
}

/** SIGKILL to the server, as a crash would end it; the watcher and the directory stay. */
export async function killServer(server: ProcessIdentity): Promise<void> {
  signalProcess(server, 'SIGKILL');
  await untilGone(server, 5_000);
}

/** Resolves when that process is gone; rejects when it still exists after `timeoutMs`. */
export async function untilGone(server: ProcessIdentity, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (isAlive(server)) {
    if (performance.now() > deadline)
      throw new Error(`process ${server.pid} is still there after ${timeoutMs} ms`);
    await pause(5);
  }
}

function collectOutput(child: ChildProcess): { text: () => string; closed: Promise<void> } {
  let text = '';
  const streams = [child.stdout, child.stderr].filter((stream) => stream !== null);
  const closed = streams.map(
    (stream) =>
      new Promise<void>((resolve) => {
        stream.on('data', (chunk: Buffer) => {
          text = (text + chunk.toString('utf8')).slice(-8_192);
        });
        stream.once('close', () => resolve());
      }),
  );
  return {
    text: () => text.replace(/^pid \d+\n/m, '').trim(),
    closed: Promise.all(closed).then(() => undefined),
  };
}

/** The server's pid, which the watcher prints first. */
function firstPid(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let head = '';
    const timer = setTimeout(
      () => settle(new Error('the watcher of the server did not start within 10 s')),
      10_000,
    );
    const onData = (chunk: Buffer): void => {
      head += chunk.toString('latin1');
      const pid = /^pid (\d+)\n/m.exec(head)?.[1];
      if (pid !== undefined) settle(undefined, Number(pid));
    };
    const onError = (error: Error): void => settle(error);
    const onExit = (): void => settle(new Error('the watcher of the server ended at once'));
    const settle = (error: Error | undefined, pid = 0): void => {
      clearTimeout(timer);
      child.stdout?.off('data', onData);
      child.off('error', onError).off('exit', onExit);
      if (error === undefined) return resolve(pid);
      child.stdin?.end();
      reject(error);
    };
    child.stdout?.on('data', onData);
    child.on('error', onError).on('exit', onExit);
  });
}

/** Unrefs the server: it must not keep its owner running. When the owner ends, the pipe ends and so does the server. */
function letGo(child: ChildProcess): void {
  child.unref();
  for (const stream of [child.stdin, child.stdout, child.stderr]) {
    if (stream !== null && 'unref' in stream && typeof stream.unref === 'function') stream.unref();
  }
}

async function within(event: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([event, late]);
  clearTimeout(timer);
}
