#!/usr/bin/env node
import { runCli } from './program';
import { thisProcess } from './session/this-process';

// The exit code is set, not forced: what was written to a pipe must still arrive.
void main();

async function main(): Promise<void> {
  try {
    process.exitCode = await runCli(process.argv.slice(2), thisProcess());
  } catch (error) {
    process.stderr.write(`belay: ${String(error)}\n`);
    process.exitCode = 1;
  }
}
