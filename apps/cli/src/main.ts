#!/usr/bin/env node
import { runCli } from './program';
import { thisProcess } from './session/this-process';

/**
 * Other processes of the user can read the environment from the start. A secret in a file is in this process only after it is
 * read.
 */
const SECRETS = ['BELAY_TOKEN', 'BELAY_VALKEY_URL'];

// The exit code is set and the process not ended: output in a pipe must still arrive.
void main();

async function main(): Promise<void> {
  const cli = thisProcess();
  if (SECRETS.some((name) => (cli.env[name] ?? '') !== '')) cli.closeToOthers();
  try {
    process.exitCode = await runCli(process.argv.slice(2), cli);
  } catch (error) {
    process.stderr.write(`belay: ${String(error)}\n`);
    process.exitCode = 1;
  }
}
