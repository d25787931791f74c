import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Every script, by the name of its file in libs/valkey/lua. Loading fails when this list and the folder differ. */
const SCRIPT_NAMES = [
  'ackOutbox',
  'addTargets',
  'admitExecution',
  'advanceExecution',
  'answerArmed',
  'answerQuestion',
  'appendLog',
  'askRoom',
  'askQuestion',
  'attendExecution',
  'banWorker',
  'claimNode',
  'closeOrder',
  'commitExecution',
  'copyLatches',
  'copyLimits',
  'countPools',
  'createToken',
  'engageLatch',
  'expireOrder',
  'expireSuspended',
  'expireWorker',
  'fenceSlots',
  'findAbandoned',
  'finishAgent',
  'freeParked',
  'freeSlots',
  'gateAttempts',
  'heartbeat',
  'holdOrdered',
  'holdSlots',
  'readQuestions',
  'recheckQuarantine',
  'markFrozen',
  'moveWebhookCursors',
  'noteReplicated',
  'orderStates',
  'overtakeLatches',
  'pauseExecution',
  'placeOrder',
  'proveAgent',
  'pruneShard',
  'quarantineRecord',
  'recordAct',
  'registerWorker',
  'releaseLatch',
  'removeWaiting',
  'reportAgent',
  'reportTargets',
  'resumeExecution',
  'retireExecution',
  'retryExecution',
  'revokeToken',
  'saveDrill',
  'saveProof',
  'saveStep',
  'setLimits',
  'signalExecution',
  'startAgent',
  'startExecution',
  'stopExecution',
  'takeSlot',
  'acquireShardLock',
  'tellEscapee',
  'transitionExecution',
  'transitionWorker',
  'useToken',
  'wakeLimited',
  'writeOffAgent',
  'watchThaw',
] as const;

export type ScriptName = (typeof SCRIPT_NAMES)[number];

/** In the published package all scripts are one file beside the library (ADR 0021), which scripts/package.mjs makes. */
const PACKED = join(__dirname, 'lua.json');

/** The .lua files by their paths without the ending: `claimNode`, `include/base`. */
type LuaFiles = Readonly<Record<string, string>>;

/** The text of every script with its includes in place. @throws Error that names the file at fault. */
export function readScriptSources(folder?: string): Record<ScriptName, string> {
  const isPacked = folder === undefined && existsSync(PACKED);
  const place = isPacked ? PACKED : (folder ?? findLuaFolder());
  const files = isPacked ? (JSON.parse(readFileSync(PACKED, 'utf8')) as LuaFiles) : readLuaFiles(place);
  const found = Object.keys(files).filter((name) => !name.includes('/'));
  const unlisted = found.filter((name) => !(SCRIPT_NAMES as readonly string[]).includes(name));
  const absent = SCRIPT_NAMES.filter((name) => !found.includes(name));
  if (unlisted.length + absent.length > 0) {
    throw new Error(
      `${place} and SCRIPT_NAMES differ: not listed: ${unlisted.join(', ') || 'none'}; no file: ${absent.join(', ') || 'none'}.`,
    );
  }
  return Object.fromEntries(SCRIPT_NAMES.map((name) => [name, expandSource(files, name)])) as Record<
    ScriptName,
    string
  >;
}

/** Every file of a folder such as libs/valkey/lua. */
export function readLuaFiles(folder: string): LuaFiles {
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.lua'),
  );
  return Object.fromEntries(
    paths.map((path) => [path.slice(0, -'.lua'.length), readFileSync(join(folder, path), 'utf8')]),
  );
}

/** Replaces `--!include NAME` by include/NAME.lua, which may include others; each file at most once in a script. */
function expandSource(files: LuaFiles, name: string): string {
  const seen = new Set<string>();
  const expand = (text: string): string =>
    text.replaceAll(/^--!include (\w+)$/gm, (_line, include: string) => {
      if (seen.has(include)) throw new Error(`${name}.lua includes ${include} twice`);
      seen.add(include);
      const found = files[`include/${include}`];
      if (found === undefined) throw new Error(`${name}.lua includes ${include}, which is not there`);
      return expand(found.trimEnd());
    });
  return expand(files[name] ?? '');
}

/**
 * Finds libs/valkey/lua of the package that contains `from`. The .lua files are not compiled, so the source, the compiled
 * module and the bundled programs (ADR 0018) all read them there. @throws Error where no folder above has them.
 */
export function findLuaFolder(from = __dirname): string {
  for (let directory = from; ; directory = dirname(directory)) {
    const folder = join(directory, 'libs/valkey/lua');
    if (existsSync(folder)) return folder;
    if (directory === dirname(directory)) throw new Error(`No folder above ${from} has libs/valkey/lua.`);
  }
}
