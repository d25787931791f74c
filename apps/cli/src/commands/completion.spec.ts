import { spawnSync } from 'node:child_process';
import { useScriptedServer, type ScriptedServer } from '../../../../test/support/scripted-server';

let belay: ScriptedServer['belay'];
let asked: string[];
useScriptedServer((server) => ({ belay, asked } = server));

/** The words that bash offers for a line, whose last word is being typed. */
async function offered(...words: readonly string[]): Promise<string[]> {
  const { code, out, err } = await belay(['completion', 'bash']);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  const line = `${out}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _belay; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const ran = spawnSync('bash', ['--norc', '-c', line, 'bash', 'belay', ...words], { encoding: 'utf8' });
  expect({ status: ran.status, stderr: ran.stderr }).toEqual({ status: 0, stderr: '' });
  return ran.stdout.split('\n').filter((word) => word !== '');
}

describe('belay completion bash', () => {
  it('offers commands, subcommands and options, and asks no orchestrator', async () => {
    expect(await offered('')).toEqual(expect.arrayContaining(['kill', 'ps', 'completion']));
    expect(await offered('kil')).toEqual(['kill']);
    expect(await offered('token', '')).toEqual(expect.arrayContaining(['create', 'revoke']));
    expect(await offered('token', 'create', '--r')).toEqual(['--role', '--rate']);
    expect(await offered('--json', 'logs', '--f')).toEqual(['--follow']);
    expect(await offered('logs', 'exe_X', '--t')).toEqual(expect.arrayContaining(['--tail', '--token-file']));
    expect(await offered('--u')).toEqual(['--url']);
    // Files, which bash itself completes.
    expect(await offered('run', '')).toEqual([]);
    expect(asked).toEqual([]);
  });

  it('knows bash only', async () => {
    expect(await belay(['completion', 'fish'])).toMatchObject({ code: 2 });
  });
});
