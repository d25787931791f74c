// Child processes of the scripts: bounded, without stdin, ended with this process.
import { spawn } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';

/** Groups of the children that run now, for Ctrl-C. */
const running = new Set();

const TERMINAL = process.stdout.isTTY;
/** Children write to a pipe of this process; only this process knows whether a terminal is behind it. */
const COLOURS = TERMINAL ? { FORCE_COLOR: '1' } : {};
// Some programs print colours whenever CI is set, so colours are removed where there is no terminal.
const plain = (text) => (TERMINAL ? text : stripVTControlCharacters(text));

/**
 * Runs a program to its end. `onLine` gets each line as it comes; `output` has all of it. `ended` describes the end in words.
 * Never rejects.
 */
export function run(program, firstArgs, { args = [], cwd, env = process.env, timeoutMs, onLine }) {
  return new Promise((resolve) => {
    // A group of its own, so that children of the program end with it.
    const child = spawn(program, [...firstArgs, ...args], {
      cwd,
      env: { ...env, ...COLOURS },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let rest = '';
    let late = false;
    const take = (chunk) => {
      output += chunk;
      if (onLine === undefined) return;
      const lines = (rest + chunk).split('\n');
      rest = lines.pop();
      for (const line of lines) onLine(plain(line));
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', take);
    const timer = setTimeout(() => {
      late = true;
      endGroup(child.pid, 'SIGKILL');
    }, timeoutMs);
    const settle = (code, ended) => {
      clearTimeout(timer);
      running.delete(child);
      if (rest !== '') onLine?.(plain(rest));
      rest = '';
      resolve({ code, ended, output: plain(output) });
    };
    running.add(child);
    child.once('error', (error) => settle(127, error.message));
    child.once('close', (code, killedBy) => {
      if (late) settle(1, `not done after ${Math.round(timeoutMs / 1000)} s`);
      else settle(code ?? 1, killedBy === null ? `exit code ${code}` : `ended by ${killedBy}`);
    });
  });
}

/** Ends every running child, with its own children. */
export function endRunning(name) {
  for (const child of running) endGroup(child.pid, name);
}

/** Signals the group of a child that was not reaped yet, so the number is still its own. */
function endGroup(pid, name) {
  if (pid === undefined) return;
  try {
    process.kill(-pid, name);
  } catch {
    // The process ended just now.
  }
}

/** `installing dependencies … 14 s`, counting on a terminal, two lines elsewhere. Returns a function that ends it. */
export function showProgress(what) {
  const begun = performance.now();
  const seconds = () => Math.round((performance.now() - begun) / 1000);
  const draw = () => process.stdout.write(`\r\u001B[K${what} … ${seconds()} s`);
  const timer = TERMINAL ? setInterval(draw, 1_000) : undefined;
  process.stdout.write(TERMINAL ? `${what} …` : `${what} …\n`);
  return (outcome) => {
    clearInterval(timer);
    const took = `${((performance.now() - begun) / 1000).toFixed(1)} s`;
    process.stdout.write(
      TERMINAL ? `\r\u001B[K${what} … ${outcome}, ${took}\n` : `${what}: ${outcome}, ${took}\n`,
    );
  };
}

/** The last lines of a text, without npm's remarks on the user's own configuration. */
export function tail(text, lines) {
  const told = text
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^npm warn Unknown .* config/.test(line));
  return told.slice(-lines).join('\n');
}
